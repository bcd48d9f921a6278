"""GGUF files: header, metadata, places; plain and simply quantised tensors as numbers."""

from __future__ import annotations

import struct

import pytest
import torch

from eightfold.checkpoints.inventory import read_inventory
from eightfold.checkpoints.load import read_tensors
from eightfold.core.errors import CheckpointError
from gguffile import BF16, F16, F32, Q4_0, Q4_K, Q8_0, Row, to_gguf, to_text


def to_bytes(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def plain(name="a", shape=(2, 3), number=F32, dtype=torch.float32, **changes):
    return Row(name, number, shape, to_bytes(torch.arange(float(torch.Size(shape).numel())).to(dtype)), **changes)


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.fixture
def refuse(tmp_path):
    def call(content):
        path = write(tmp_path / "a.gguf", content)
        with pytest.raises(CheckpointError) as caught:
            read_inventory(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value) and caught.value.hint
        return str(caught.value)

    return call


@pytest.mark.parametrize("version", [2, 3])
def test_there_and_back(tmp_path, version):
    rows = [
        plain("single", (5,)),
        plain("b.weight", (2, 3, 4, 5), F16, torch.float16),
        plain("c", (7, 2), BF16, torch.bfloat16),
        plain("ids", (3,), 26, torch.int32),
        Row("scalar", F32, (), struct.pack("<f", 2.5)),
        Row("empty", F32, (0, 4), b""),
    ]
    path = write(tmp_path / "a.gguf", to_gguf(rows, {"general.architecture": "flux"}, version=version))
    inventory = read_inventory(path)
    assert (inventory.format, inventory.files, inventory.metadata) == ("gguf", (path,), {"general.architecture": "flux"})
    assert inventory.shapes == {"single": (5,), "b.weight": (2, 3, 4, 5), "c": (7, 2), "ids": (3,), "scalar": (), "empty": (0, 4)}
    found = read_tensors(path)
    assert torch.equal(found["single"], torch.arange(5.0))
    assert torch.equal(found["b.weight"], torch.arange(120).half().reshape(2, 3, 4, 5))
    assert torch.equal(found["c"], torch.arange(14).bfloat16().reshape(7, 2))
    assert torch.equal(found["ids"], torch.arange(3, dtype=torch.int32))
    assert found["scalar"].item() == 2.5 and found["empty"].shape == (0, 4)


def test_metadata_of_every_type(tmp_path):
    metadata = {
        "text": "flüx",
        "yes": ("bool", True),
        "long": ("i32", list(range(70))),
        "list": ("i32", [1, -2]),
        "words": ("text", ["a", "b"]),
    }
    metadata |= {
        "u8": ("u8", 200),
        "i8": ("i8", -3),
        "u16": ("u16", 60000),
        "i16": ("i16", -9),
        "u32": ("u32", 2**32 - 1),
        "i32": ("i32", -1),
    }
    metadata |= {"u64": ("u64", 2**64 - 1), "i64": ("i64", -(2**63)), "f32": ("f32", 0.5), "f64": ("f64", 0.1), "none": ("text", [])}
    found = read_inventory(write(tmp_path / "a.gguf", to_gguf([plain()], metadata))).metadata
    assert found == {
        "text": "flüx",
        "yes": "True",
        "long": "70 numbers",
        "list": "[1, -2]",
        "words": "2 texts",
        "none": "0 texts",
        "u8": "200",
        "i8": "-3",
        "u16": "60000",
        "i16": "-9",
        "u32": str(2**32 - 1),
        "i32": "-1",
        "u64": str(2**64 - 1),
        "i64": str(-(2**63)),
        "f32": "0.5",
        "f64": "0.1",
    }


def test_another_alignment(tmp_path):
    rows = [plain("a", (3,)), plain("b", (3,))]
    for alignment in (8, 64, 4096):
        path = write(tmp_path / "a.gguf", to_gguf(rows, {"general.alignment": ("u32", alignment)}, alignment=alignment))
        assert all(torch.equal(tensor, torch.arange(3.0)) for tensor in read_tensors(path).values())
        assert all(entry.offset % alignment == 0 for entry in read_inventory(path).tensors.values())


def test_q8_0_by_hand(tmp_path):
    """y = d * q, one float16 d for 32 signed bytes."""
    codes = [*range(-16, 16)], [127, -128, *[0] * 30]
    data = b"".join(struct.pack("<e32b", step, *block) for step, block in zip((0.5, -2.0), codes, strict=True))
    found = read_tensors(write(tmp_path / "a.gguf", to_gguf([Row("a", Q8_0, (2, 32), data)])))["a"]
    assert found.dtype == torch.float32
    assert found.tolist() == [[0.5 * code for code in codes[0]], [-2.0 * code for code in codes[1]]]


def test_q4_0_by_hand(tmp_path):
    """y = d * (q - 8), the first 16 numbers in the low halves of 16 bytes, the others in the high ones."""
    low, high = [*range(16)], [*range(15, -1, -1)]
    data = struct.pack("<e", 0.25) + bytes(a | b << 4 for a, b in zip(low, high, strict=True))
    found = read_tensors(write(tmp_path / "a.gguf", to_gguf([Row("a", Q4_0, (32,), data)])))["a"]
    assert found.tolist() == [0.25 * (code - 8) for code in (*low, *high)]


def test_quantised_types_are_listed_and_refused_by_name(tmp_path):
    path = write(tmp_path / "a.gguf", to_gguf([Row("a", Q4_K, (2, 256), bytes(288)), plain("b")]))
    entry = read_inventory(path).tensors["a"]
    assert (entry.dtype, entry.shape, entry.length) == ("Q4_K", (2, 256), 288)
    assert list(read_tensors(path, "b")) == [""]
    with pytest.raises(CheckpointError, match="tensor a is Q4_K") as caught:
        read_tensors(path)
    assert "Q8_0" in caught.value.hint


def test_an_original_shape_is_restored(tmp_path):
    """Converters of image models store what does not come in rows of 256 otherwise, and keep the shape beside it."""
    data = struct.pack("<e32b", 1.0, *range(32)) * 9
    metadata = {"comfy.gguf.orig_shape.a": ("i32", [4, 8, 3, 3])}
    path = write(tmp_path / "a.gguf", to_gguf([Row("a", Q8_0, (9, 32), data)], metadata))
    assert read_inventory(path).shapes == {"a": (4, 8, 3, 3)} and read_inventory(path).metadata == {}
    assert torch.equal(read_tensors(path)["a"].flatten(), torch.arange(32.0).repeat(9))


def test_every_way_to_cut_a_file_short_is_refused(tmp_path, refuse):
    content = to_gguf([plain(), plain("b", (9,))], {"k": "v", "l": ("text", ["a"])})
    for length in range(len(content)):
        refuse(content[:length])
    assert len(read_inventory(write(tmp_path / "a.gguf", content)).tensors) == 2


HUGE = 2**63


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (to_gguf([plain()], version=1), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "in the other order"),
        (b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0), "claims 9223372036854775808 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE), "entries of metadata"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, HUGE), "bytes of text"),
        (to_gguf([plain()], {"a": ("u8", 1)}).replace(to_text("a") + b"\0\0\0\0", to_text("a") + b"\x63\0\0\0"), "unknown type 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + to_text("k") + struct.pack("<IIQ", 9, 8, HUGE), "items"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + to_text("k") + struct.pack("<IIQ", 9, 0, HUGE), "truncated"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + to_text("k") + struct.pack("<IIQ", 9, 9, 1), "unknown type 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + 2 * (to_text("k") + struct.pack("<IB", 0, 1)), "twice"),
        (to_gguf([plain(), plain()]), "one name"),
        (to_gguf([plain(), plain("b", offset=0)]), "inside the one before it"),
        (to_gguf([plain("a", (64,)), plain("b", offset=32)]), "inside the one before it"),
        (to_gguf([plain(offset=7)]), "cannot be"),
        (to_gguf([plain(offset=HUGE)]), "cannot be"),
        (to_gguf([plain(offset=2**40)]), "truncated"),
        (to_gguf([Row("a", F32, (HUGE,), b"")]), "cannot be"),
        (to_gguf([Row("a", F32, (2**62, 2**62), b"")]), "truncated"),
        (to_gguf([Row("a", F32, (1,) * 9, bytes(4))]), "9 axes"),
        (to_gguf([Row("a", F32, (HUGE,) * 8, b"")]), "tensor a F32"),
        (to_gguf([Row("a", 77, (1,), bytes(4))]), "unknown type 77"),
        (to_gguf([Row("a", Q8_0, (33,), bytes(34))]), "cannot be"),
        (to_gguf([plain()], {"general.alignment": ("u32", 0)}), "alignment"),
        (to_gguf([plain()], {"general.alignment": ("u32", 33)}), "alignment"),
        (to_gguf([plain()], {"general.alignment": "x" * 10_000}), "alignment"),
        (to_gguf([plain()], {"comfy.gguf.orig_shape.a": ("i32", [7])}), "original shape"),
        (to_gguf([plain()], {"comfy.gguf.orig_shape.a": ("i32", [-2, -3])}), "original shape"),
        (to_gguf([plain("a", (1,))], {"comfy.gguf.orig_shape.a": "[1"}), "original shape"),
        (to_gguf([plain("a", (1,))], {"comfy.gguf.orig_shape.a": ("i32", [])}), "original shape"),
        (to_gguf([plain()], {"split.count": ("u16", 3)}), "one of 3 parts"),
    ],
    ids=range(30),
)
def test_headers_that_lie(refuse, content, why):
    assert why in refuse(content)
