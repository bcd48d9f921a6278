from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from eightfold.checkpoints.formats import TensorInfo, read_safetensors_header
from eightfold.core.errors import CheckpointError, EightfoldError


def write_raw(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(begin: Any, end: Any, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def refused(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_safetensors_header(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and caught.value.hint
    return caught.value


def test_a_file_of_the_reference_writer(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(2, 3), "b.c": torch.zeros(5, dtype=torch.bfloat16), "s": torch.tensor(1), "e": torch.zeros(0, 4)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"k": "v"})
    found, metadata = read_safetensors_header(tmp_path / "a.safetensors")
    assert metadata == {"k": "v"}
    assert found == {
        "a": TensorInfo("F32", (2, 3)),
        "b.c": TensorInfo("BF16", (5,)),
        "s": TensorInfo("I64", ()),
        "e": TensorInfo("F32", (0, 4)),
    }


def test_every_way_to_cut_a_file_short_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    for length in range(len(content)):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(content[:length])
        refused(path)
    path.write_bytes(content)
    assert "a" in read_safetensors_header(path).tensors


def test_truncation_is_called_so(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(300)}, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    for length in (20, len(content) - 1):
        (tmp_path / "a.safetensors").write_bytes(content[:length])
        assert "truncated" in str(refused(tmp_path / "a.safetensors"))


def test_foreign_files_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.ckpt")
    for protocol in (2, 4, 5):
        (tmp_path / f"{protocol}.pt").write_bytes(pickle.dumps({"a": 1}, protocol=protocol))
    (tmp_path / "a.gguf").write_bytes(b"GGUF\3\0\0\0" + bytes(60))
    (tmp_path / "a.txt").write_text("Not a weight file, but a text that goes on for more than a few bytes.\n")
    (tmp_path / "lfs").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    (tmp_path / "page").write_text("<!DOCTYPE html><html><body>404 not found</body></html>")
    (tmp_path / "zeros").write_bytes(bytes(1000))
    (tmp_path / "empty").touch()
    looks = {
        "a.png": "PNG",
        "a.jpg": "JPEG",
        "a.ckpt": "torch.save",
        "2.pt": "pickle",
        "4.pt": "pickle",
        "5.pt": "pickle",
        "a.gguf": "GGUF",
    }
    looks |= {"a.txt": "text", "lfs": "LFS pointer", "page": "web page", "zeros": "not a safetensors file", "empty": "empty"}
    for name, look in looks.items():
        assert look in str(refused(tmp_path / name)), name


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "No such file" in str(refused(tmp_path / "missing.safetensors"))
    assert "folder" in str(refused(tmp_path))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "a.ckpt").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path / "a.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("header", "size", "why"),
    [
        ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "begins at byte 4"),
        ({"a": entry(0, 8), "b": entry(12, 20)}, 20, "begins at byte 12"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, 8, "begins at byte 0"),
        ({"a": entry(0, 8)}, 9, "behind its last"),
        ({"a": entry(0, 4)}, 4, "needs 8 bytes"),
        ({"a": entry(0, 8, dtype="F31")}, 8, "unknown type"),
        ({"a": entry(0, 8, dtype=["F32"])}, 8, "unknown type"),
        ({"a": entry(8, 0)}, 8, "needs 8 bytes"),
        ({"a": entry(-8, 0)}, 8, "shape"),
        ({"a": entry(0, 8, shape=(-1, -2))}, 8, "shape"),
        ({"a": entry(0, 8, shape=(2.0,))}, 8, "shape"),
        ({"a": entry(0, 4, shape=(True,))}, 4, "shape"),
        ({"a": entry(0, 8, shape="2")}, 8, "shape"),
        ({"a": entry(0, 8, shape=(10**9,) * 40)}, 8, "needs"),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8, "lacks"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}}, 8, "lacks"),
        ({"a": 3}, 8, "lacks"),
        ({"__metadata__": {"a": 1}}, 0, "metadata"),
        ({"__metadata__": []}, 0, "metadata"),
        (b'{"a": 1, "a": 2}', 0, "twice"),
        (b'{"a":', 0, "JSON"),
        (b'{"a":' * 100_000, 0, "JSON"),
        (b'{"\xff": 1}', 0, "JSON"),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: Any, size: int, why: str) -> None:
    assert why in str(refused(write_raw(tmp_path / "a.safetensors", header, bytes(size))))


def test_a_header_that_claims_more_than_the_format_allows(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes((2**62).to_bytes(8, "little") + b'{"a": 1}' * 10)
    refused(tmp_path / "a")


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 200), value=st.integers(0, 255))
def test_one_wrong_byte_gives_an_error_of_ours_or_none(tmp_path_factory: pytest.TempPathFactory, position: int, value: int) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.safetensors"
    save_file({"first": torch.zeros(3, 2), "second": torch.zeros(7, dtype=torch.float16)}, path, metadata={"k": "v"})
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    try:
        read_safetensors_header(path)
    except EightfoldError as error:
        assert error.hint
