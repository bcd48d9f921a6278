from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from eightfold.checkpoints.fingerprint import fingerprint
from eightfold.checkpoints.formats import read_safetensors_header
from eightfold.checkpoints.save import DTYPES, write_safetensors
from eightfold.core.errors import CheckpointError, OutputError


def build_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {f"of.{name}": torch.randint(0, 2, (3, 5), generator=generator).to(dtype) for dtype, name in DTYPES.items()}
    weight = torch.randn(4, 6, generator=generator)
    return {
        **tensors,
        "scalar": torch.tensor(2.5),
        "nothing": torch.zeros(0, 3),
        "turned": weight.T,
        "part": weight[1:3, ::2],
        "whole": weight,
    }


def to_exact(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    return tensor.dtype, tensor.shape, tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def test_the_reference_reader_gets_every_type_back(tmp_path: Path) -> None:
    path, tensors = tmp_path / "a.safetensors", build_tensors()
    write_safetensors(path, tensors, {"note": "naïve\n\u2028"}, overwrite=False)
    found = load_file(path)
    assert {name: to_exact(tensor) for name, tensor in found.items()} == {name: to_exact(tensor) for name, tensor in tensors.items()}
    with safe_open(str(path), framework="pt") as file:
        assert file.metadata() == {"note": "naïve\n\u2028"}
    assert {name: info.shape for name, info in read_safetensors_header(path).tensors.items()} == {
        n: tuple(t.shape) for n, t in tensors.items()
    }


def test_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    tensors = build_tensors()
    write_safetensors(tmp_path / "a", tensors, {"x": "1", "y": "2"}, overwrite=False)
    write_safetensors(tmp_path / "b", dict(reversed(tensors.items())), {"y": "2", "x": "1"}, overwrite=False)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_lie_aligned_to_their_type(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(3, dtype=torch.uint8), "b": torch.zeros(3, dtype=torch.float64), "c": torch.zeros(1, dtype=torch.float16)}
    write_safetensors(tmp_path / "a", tensors, {}, overwrite=False)
    content = (tmp_path / "a").read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0
    assert content.index(b'"b"') < content.index(b'"c"') < content.index(b'"a"')


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        write_safetensors(tmp_path / "a", {"a": torch.zeros(1)}, {}, overwrite=False)
    assert (tmp_path / "a").read_bytes() == b"old"
    write_safetensors(tmp_path / "a", {"a": torch.zeros(1)}, {}, overwrite=True)
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    assert torch.equal(load_file(tmp_path / "a")["a"], torch.zeros(1))


@pytest.mark.parametrize("tensor", [torch.zeros(1, dtype=torch.complex64), torch.zeros(1, device="meta")])
def test_what_cannot_be_stored(tmp_path: Path, tensor: Tensor) -> None:
    with pytest.raises(CheckpointError, match="tensor odd"):
        write_safetensors(tmp_path / "a", {"odd": tensor}, {}, overwrite=False)
    assert [one.name for one in tmp_path.iterdir()] == []


def test_fingerprint_ignores_order_and_layout() -> None:
    tensors = build_tensors()
    shuffled = {name: tensors[name].contiguous().clone() for name in reversed(tensors)}
    assert fingerprint(tensors) == fingerprint(shuffled)
    assert len(fingerprint(tensors)) == 64


def test_fingerprint_tells_names_types_shapes_and_values_apart() -> None:
    zeros = torch.zeros(2, 3)
    variants = [
        {},
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.T},
        {"a": zeros.reshape(6)},
        {"a": zeros.half()},
        {"a": zeros.to(torch.int32)},
        {"a": -zeros},
        {"a": zeros, "b": torch.zeros(0)},
        {"a": zeros.reshape(6)[:3], "b": zeros.reshape(6)[3:]},
    ]
    assert len({fingerprint(variant) for variant in variants}) == len(variants)


def test_fingerprint_stays_what_it_was() -> None:
    """Files carry fingerprints: a change of the rule would make strangers of them all."""
    tensors = {"b": torch.tensor([1.0, -2.0]), "a": torch.tensor([[1, 2]], dtype=torch.uint8)}
    from hashlib import sha256

    expected = sha256(b'["a", "U8", [1, 2]]\n\x01\x02["b", "F32", [2]]\n\x00\x00\x80\x3f\x00\x00\x00\xc0').hexdigest()
    assert fingerprint(tensors) == expected
