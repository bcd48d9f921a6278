"""Archives of torch.save: read as torch reads them, and no code of theirs runs."""

from __future__ import annotations

import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict, defaultdict

import pytest
import torch
from torch import nn

from eightfold.checkpoints.inventory import read_inventory
from eightfold.checkpoints.load import read_tensors
from eightfold.core.errors import CheckpointError
from torchfile import Call, Numbers, to_tensor, write_archive

FOUR = torch.arange(4.0).numpy().tobytes()
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
DTYPES += (torch.bool, torch.float8_e4m3fn, torch.float8_e5m2)


def build_tensors():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(60, generator=generator)
    return {
        "plain": torch.randn(3, 4, generator=generator),
        "part": base[7:19],
        "rows": base.view(6, 10)[1:5, ::3],
        "turned": base.view(6, 10).t(),
        "last": torch.randn(2, 3, 4, 5, generator=generator).contiguous(memory_format=torch.channels_last),
        "wide": torch.arange(5).expand(3, 5),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "parameter": nn.Parameter(torch.ones(2)),
    }


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(found[name].float(), tensor.detach().float()), name


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        read_inventory(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_there_and_back(tmp_path, protocol):
    expected = build_tensors()
    torch.save(expected, tmp_path / "a.pt", pickle_protocol=protocol)
    found = read_tensors(tmp_path / "a.pt")
    assert_same(found, expected)
    assert {name: found[name].stride() for name in ("rows", "turned", "last", "wide")} == {
        name: expected[name].stride() for name in ("rows", "turned", "last", "wide")
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type(tmp_path, dtype):
    expected = {"a": torch.arange(6).to(dtype), "b": torch.arange(9).to(dtype)[2:7]}
    torch.save(expected, tmp_path / "a.pt")
    assert_same(read_tensors(tmp_path / "a.pt"), expected)


def test_what_shares_numbers_lies_in_one_place(tmp_path):
    torch.save(build_tensors(), tmp_path / "a.pt")
    entries = read_inventory(tmp_path / "a.pt").tensors
    assert entries["part"].offset == entries["turned"].offset + 7 * 4
    assert entries["turned"].strides == (1, 10) and entries["plain"].strides is None
    found = read_tensors(tmp_path / "a.pt")
    assert found["part"].data_ptr() == found["turned"].data_ptr() + 7 * 4


def test_a_prefix(tmp_path):
    torch.save({"a.x": torch.ones(2), "b.x": torch.zeros(3)}, tmp_path / "a.pt")
    assert_same(read_tensors(tmp_path / "a.pt", "a."), {"x": torch.ones(2)})


def test_writing_to_a_tensor_leaves_the_file(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    read_tensors(tmp_path / "a.pt")["a"].zero_()
    assert_same(read_tensors(tmp_path / "a.pt"), {"a": torch.ones(2)})


@pytest.mark.parametrize(
    "nest",
    [
        lambda weights: {"state_dict": OrderedDict(weights), "global_step": 470_000, "version": "1.4.2", "rate": 0.5, "deep": {"a": 1}},
        lambda weights: {"model": weights, "global_step": 470_000, "version": "1.4.2", "rate": 0.5, "optimizer": {"state": {}}},
        lambda weights: {
            "module": {"state_dict": weights},
            "global_step": 470_000,
            "version": "1.4.2",
            "rate": 0.5,
        },
        lambda weights: {"whatever": weights, "global_step": 470_000, "version": "1.4.2", "rate": 0.5},
        lambda weights: {
            "state_dict": weights,
            "state_dict_ema": {"other": torch.ones(9)},
            "global_step": 470_000,
            "version": "1.4.2",
            "rate": 0.5,
        },
        lambda weights: {"state_dict": defaultdict(list, weights), "global_step": 470_000, "version": "1.4.2", "rate": 0.5},
        lambda weights: {**weights, "global_step": 470_000, "version": "1.4.2", "rate": 0.5, "list": [1, 2]},
    ],
)
def test_nested_tables_are_found_and_what_is_beside_them_is_metadata(tmp_path, nest):
    expected = {"a": torch.ones(2), "b": torch.zeros(3)}
    torch.save(nest(expected), tmp_path / "a.ckpt")
    assert_same(read_tensors(tmp_path / "a.ckpt"), expected)
    assert read_inventory(tmp_path / "a.ckpt").metadata == {"global_step": "470000", "version": "1.4.2", "rate": "0.5"}


def test_two_tables_are_a_question(tmp_path):
    torch.save({"one": {"a": torch.ones(2)}, "two": {"a": torch.ones(2)}}, tmp_path / "a.pt")
    assert "one, two" in refused(tmp_path / "a.pt")


def test_a_module_is_not_a_table(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    assert "torch.nn.modules.linear.Linear" in refused(tmp_path / "a.pt")
    for content in ({}, [torch.ones(1)], 3, "text", {"a": 1}, None, (1, 2)):
        torch.save(content, tmp_path / "a.pt")
        assert "no table of tensors" in refused(tmp_path / "a.pt")


def test_trainers_objects_are_left_aside_by_name(tmp_path, monkeypatch):
    """As trainers do, whose classes are not installed where the file is read."""
    module = types.ModuleType("pytorch_lightning")

    class ModelCheckpoint:
        def __init__(self):
            self.best, self.mode = 3, "min"

    ModelCheckpoint.__module__, ModelCheckpoint.__qualname__ = module.__name__, "ModelCheckpoint"
    module.ModelCheckpoint = ModelCheckpoint
    monkeypatch.setitem(sys.modules, module.__name__, module)
    content = {"state_dict": {"a": torch.ones(2)}, "callbacks": {ModelCheckpoint: {"best": torch.ones(1)}, "x": ModelCheckpoint()}}
    for protocol in (2, 4):
        torch.save(
            content | {"set": {1, 2}, "frozen": frozenset([3]), "bytes": b"12", "big": 10**30},
            tmp_path / "a.ckpt",
            pickle_protocol=protocol,
        )
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, module.__name__)
            inventory = read_inventory(tmp_path / "a.ckpt")
        assert list(inventory.tensors) == ["a"]
        assert any("pytorch_lightning.ModelCheckpoint" in note for note in inventory.notes)


def test_tensors_of_another_kind_are_named(tmp_path):
    sparse = torch.eye(3).to_sparse()
    torch.save({"a": torch.ones(2), "odd": sparse}, tmp_path / "a.pt")
    inventory = read_inventory(tmp_path / "a.pt")
    assert list(inventory.tensors) == ["a"]
    assert any("odd: a _rebuild_sparse_tensor" in note for note in inventory.notes)


@pytest.mark.parametrize("place", ["root", "value", "beside", "list", "state"])
def test_no_code_runs(tmp_path, place):
    ran = tmp_path / "ran"
    bomb = Call(os.mkdir, str(ran))
    whole = {"a": to_tensor(Numbers("0", 4), 0, (4,), (1,))}
    content = {
        "root": bomb,
        "value": whole | {"b": bomb},
        "beside": {"state_dict": whole, "b": bomb},
        "list": {"state_dict": whole, "b": [bomb, {"c": bomb}]},
        "state": {"state_dict": whole, "b": Call(eval, f"__import__('pathlib').Path({str(ran)!r}).touch()")},
    }[place]
    write_archive(tmp_path / "a.pt", content, {"data/0": FOUR})
    if place == "root":
        assert "mkdir" in refused(tmp_path / "a.pt")
    else:
        assert_same(read_tensors(tmp_path / "a.pt"), {"a": torch.arange(4.0)})
        assert any(name in read_inventory(tmp_path / "a.pt").notes[0] for name in ("mkdir", "eval"))
    assert not ran.exists()


def test_the_bombs_of_these_tests_would_go_off(tmp_path):
    pickle.loads(pickle.dumps(Call(os.mkdir, str(tmp_path / "ran"))))
    assert (tmp_path / "ran").exists()


def test_old_files_are_refused_with_a_way_out(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert "an old file of torch.save" in refused(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps({"a": 1}))
    assert "pickle" in refused(tmp_path / "b.pt")


def test_other_archives_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("model.safetensors", "x")
    assert "torch.save did not write it" in refused(tmp_path / "a.zip")
    write_archive(tmp_path / "b.pt", {}, {"constants.pkl": b""})
    assert "TorchScript" in refused(tmp_path / "b.pt")
    write_archive(tmp_path / "c.pt", {}, {"byteorder": b"big"})
    assert "order b'big'" in refused(tmp_path / "c.pt")


def test_compressed_entries_are_refused(tmp_path):
    content = {"a": to_tensor(Numbers("0", 4), 0, (4,), (1,))}
    write_archive(tmp_path / "a.pt", content, {"data/0": FOUR}, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(tmp_path / "a.pt")


def test_wide_archives(tmp_path, monkeypatch):
    """Above 4 GB a zip archive keeps its numbers elsewhere; here from the first byte on."""
    torch.save(build_tensors(), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    with zipfile.ZipFile(tmp_path / "wide.pt", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert b"PK\6\6" in (tmp_path / "wide.pt").read_bytes()
    assert_same(read_tensors(tmp_path / "wide.pt"), build_tensors())


def test_a_cut_archive_is_refused(tmp_path):
    torch.save(build_tensors(), tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    for length in range(0, len(content), 97):
        (tmp_path / "a.pt").write_bytes(content[:length])
        refused(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("numbers", "offset", "shape", "strides", "why"),
    [
        (Numbers("0", 4), 1, (4,), (1,), "uses 5 numbers of a storage of 4"),
        (Numbers("0", 4), 0, (2, 3), (3, 1), "uses 6 numbers"),
        (Numbers("0", 4), 0, (2, 2), (3, 1), "uses 5 numbers"),
        (Numbers("0", 5), 0, (5,), (1,), "needs 20 bytes, has 16"),
        (Numbers("0", 2**63 - 1), 0, (4,), (1,), "needs"),
        (Numbers("0", 4), 0, (2**62, 2**62), (0, 0), "repeats 1 numbers"),
        (Numbers("0", 4), 0, (2**63 - 1,), (1,), "uses"),
        (Numbers("0", 4), 0, (2**63,), (1,), "not described"),
        (Numbers("0", 4), 0, (-1,), (1,), "not described"),
        (Numbers("0", 4), 2**62, (4,), (2**62,), "uses"),
        (Numbers("0", 4), -4, (4,), (1,), "not described"),
        (Numbers("0", 4), 3, (4,), (-1,), "not described"),
        (Numbers("0", 4), 0, (4,), (1, 1), "strides"),
        (Numbers("0", 4), 0, (1,) * 67, (1,) * 67, "not described"),
        (Numbers("0", 4), 0, (4.0,), (1,), "not described"),
        (Numbers("0", 4), 0, (True,), (1,), "not described"),
        (Numbers("0", 4), 0, "4", "1", "not described"),
        (Numbers("0", -4), 0, (4,), (1,), "not described"),
        (Numbers("0", 4.0), 0, (4,), (1,), "not described"),
        (Numbers("7", 4), 0, (4,), (1,), "lacks the numbers of tensor a"),
        (Numbers("../0", 4), 0, (4,), (1,), "lacks the numbers"),
        (Numbers("0", 4, "FloatStorage"), 0, (4,), (1,), "not described"),
    ],
)
def test_tensors_that_lie(tmp_path, numbers, offset, shape, strides, why):
    write_archive(tmp_path / "a.pt", {"a": to_tensor(numbers, offset, shape, strides)}, {"data/0": FOUR})
    assert why in refused(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b".",
        b"\x80\x02",
        b"\x80\x02}",
        b"\x80\x02(.",
        b"\x80\x02K\x01K\x02s.",
        b"\x80\x02}K\x01u.",
        b"\x80\x02j\x09\0\0\0.",
        b"\x80\x02cos\nsystem\n",
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"Pname\n.",
        b"\x82\x01.",
        b"\x80\x04\x97.",
        b"\x80\x02}q\x00" + b"h\x00" * 500_000 + b".",
        b"p99999999999999999999\n.",
        b"Kx" + b"\x85" * 100_000 + b".",
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x8b\xff\xff\xff\x7f.",
        b"\x80\x02}X\x01\0\0\0aK\1sX\x01\0\0\0aK\2s.",
    ],
    ids=range(20),
)
def test_pickles_that_cannot_be(tmp_path, text):
    write_archive(tmp_path / "a.pt", text, {"data/0": FOUR})
    refused(tmp_path / "a.pt")


def test_names_out_of_a_file_stay_on_one_line(tmp_path):
    name = "a\nerror: \x1b[31mb" + "c" * 5000
    write_archive(tmp_path / "a.pt", {name: to_tensor(Numbers("0", 5), 0, (5,), (1,))}, {"data/0": FOUR})
    said = refused(tmp_path / "a.pt")
    assert "\x1b" not in said and len(said) < 1000
