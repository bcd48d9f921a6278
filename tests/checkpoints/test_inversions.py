"""Textual inversions as trainers write them, and what is none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eightfold.checkpoints.inversions import read_inversion
from eightfold.checkpoints.save import write_safetensors
from eightfold.core.errors import CheckpointError
from torchfile import Call, Numbers, to_tensor, write_archive
from weights import draw

SMALL, BIG = draw(3, 16), draw(3, 32, seed=1)
TOKEN = {"*": torch.tensor(265)}


def hold(tensor):
    """As the first trainers kept it."""
    return nn.ParameterDict({"*": nn.Parameter(tensor)})


TORCH = {
    "the web UI's": {"string_to_token": {"*": 265}, "string_to_param": {"*": SMALL}, "name": "other", "step": 100, "sd_checkpoint": None},
    "with a parameter": {"string_to_token": {"*": 265}, "string_to_param": {"*": nn.Parameter(SMALL)}, "name": "other"},
    "the first trainers'": {"string_to_token": TOKEN, "string_to_param": hold(SMALL)},
    "the first trainers' table": {"string_to_token": TOKEN, "string_to_param": {"*": SMALL}},
    "kohya's": {"emb_params": SMALL},
    "bare": SMALL,
    "for XL": {"clip_l": SMALL, "clip_g": BIG},
    "diffusers'": {"<toy>": SMALL},
    "half": {"string_to_param": {"*": SMALL.half()}},
}


@pytest.mark.parametrize("name", TORCH)
def test_files_of_torch(tmp_path, name):
    torch.save(TORCH[name], tmp_path / "My cat.pt")
    word = read_inversion(tmp_path / "My cat.pt")
    assert word.names == (("My cat", "<toy>") if name == "diffusers'" else ("My cat",))
    assert word.count == 3
    assert {*word.vectors} == ({16, 32} if name == "for XL" else {16})
    assert torch.allclose(word.vectors[16], SMALL, rtol=0, atol=1e-2 if name == "half" else 0)
    assert name != "for XL" or torch.equal(word.vectors[32], BIG)
    assert word.vectors[16].dtype == torch.float32


@pytest.mark.parametrize(
    ("tensors", "names"),
    [
        ({"emb_params": SMALL}, ("x",)),
        ({"<toy>": SMALL}, ("x", "<toy>")),
        ({"x": SMALL}, ("x",)),
        ({"clip_l": SMALL, "clip_g": BIG}, ("x",)),
    ],
)
def test_safetensors(tmp_path, tensors, names):
    write_safetensors(tmp_path / "x.safetensors", tensors, {}, overwrite=False)
    word = read_inversion(tmp_path / "x.safetensors")
    assert word.names == names
    assert torch.equal(word.vectors[16], SMALL)
    assert word.source == str(tmp_path / "x.safetensors")


def test_one_vector_alone(tmp_path):
    torch.save({"<toy>": SMALL[0]}, tmp_path / "x.bin")
    word = read_inversion(tmp_path / "x.bin")
    assert torch.equal(word.vectors[16], SMALL[:1])


def test_a_name_of_ones_own(tmp_path):
    torch.save({"<toy>": SMALL}, tmp_path / "x.bin")
    assert read_inversion(tmp_path / "x.bin", name="cat").names == ("cat",)


def test_what_was_read_stays_when_the_file_goes(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"emb_params": SMALL}, path)
    word = read_inversion(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(word.vectors[16], SMALL)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({}, "holds 0 tensors"),
        ({"emb_params": 3}, "holds 0 tensors"),
        ([SMALL], "holds 0 tensors"),
        ({f"{n}": draw(1, 4 + n) for n in range(9)}, "holds 9 tensors"),
        ({"a": SMALL, "b": SMALL}, "two tables of vectors of 16 numbers"),
        ({"clip_l": SMALL, "clip_g": BIG[:2]}, "2 and 3 vectors"),
        ({"emb_params": draw(1, 2, 16)}, r"is \[1, 2, 16\] of float32"),
        ({"emb_params": torch.tensor(1.0)}, r"is \[\] of float32"),
        ({"emb_params": draw(0, 16)}, r"is \[0, 16\] of float32"),
        ({"emb_params": torch.ones(2, 16, dtype=torch.long)}, "of int64"),
        ({"emb_params": SMALL / 0}, "infinite"),
    ],
)
def test_what_is_no_inversion(tmp_path, content, what):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=what) as caught:
        read_inversion(tmp_path / "x.pt")
    assert caught.value.hint


def test_nothing_runs(tmp_path):
    path = tmp_path / "x.pt"
    trap = Call(exec, f"open({str(tmp_path / 'ran')!r}, 'w')")
    view = to_tensor(Numbers("0", 32), 0, (2, 16), (16, 1))
    write_archive(path, {"string_to_param": {"*": view}, "optimizer": trap}, {"data/0": b"\0" * 128})
    assert read_inversion(path).count == 2
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", [3, 2**60])
def test_a_view_beyond_its_numbers(tmp_path, size):
    view = to_tensor(Numbers("0", 32), 0, (size, 16), (16, 1))
    write_archive(tmp_path / "x.pt", {"emb_params": view}, {"data/0": b"\0" * 128})
    with pytest.raises(CheckpointError):
        read_inversion(tmp_path / "x.pt")


def test_numbers_that_are_not_there(tmp_path):
    view = to_tensor(Numbers("7", 32), 0, (2, 16), (16, 1))
    write_archive(tmp_path / "x.pt", {"emb_params": view}, {})
    with pytest.raises(CheckpointError, match="lacks the numbers"):
        read_inversion(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 99, b"PK\3\4" + b"\0" * 99, b"\x80\x02}q\x00."])
def test_no_weight_file_at_all(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError):
        read_inversion(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="cannot read"):
        read_inversion(tmp_path / "missing.pt")
