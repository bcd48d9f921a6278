"""Weights from safetensors files into networks: built without memory, read by memory map, assigned strictly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..core.errors import CheckpointError, WeightMismatch
from .formats import read_safetensors_header

M = TypeVar("M", bound=nn.Module)


def read_tensors(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors whose name begins with `prefix`, under the rest of their name; memory-mapped where the format allows it."""
    read_safetensors_header(path)  # a broken file is named here, before any tensor is touched
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read: {error}", hint="the file may be damaged: fetch it again") from None


def load_module(
    build: Callable[[], M],
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> M:
    """Build the network on `meta` and give it `tensors`. Names and shapes must agree exactly (WeightMismatch)."""
    with torch.device("meta"):
        module = build()
    check_tensors(module.state_dict(), tensors, source)
    ready = {name: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None) for name, tensor in tensors.items()}
    module.load_state_dict(ready, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def check_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str) -> None:
    """Raise WeightMismatch, naming tensors, unless names, shapes and kinds of number (with a fraction or without) agree."""
    both = [(name, expected[name], found[name]) for name in expected if name in found]
    parts = [
        *list_some("missing", [name for name in expected if name not in found]),
        *list_some("unknown", [name for name in found if name not in expected]),
        *list_some("of another shape", [describe_shapes(name, want, got) for name, want, got in both if want.shape != got.shape]),
        *list_some("of another kind", [describe_kinds(name, want, got) for name, want, got in both if is_of_another_kind(want, got)]),
    ]
    if parts:
        raise WeightMismatch(f"{source} does not fit the network: {'; '.join(parts)}", hint="`eightfold info FILE` lists what is in it")


def list_some(what: str, names: list[str], most: int = 3) -> list[str]:
    """One phrase that counts `names` and gives the first of them; nothing for none."""
    more = ", ..." if len(names) > most else ""
    return [f"{len(names)} {what} ({', '.join(names[:most])}{more})"] if names else []


def describe_shapes(name: str, want: Tensor, got: Tensor) -> str:
    return f"{name} is {list(got.shape)}, expected {list(want.shape)}"


def describe_kinds(name: str, want: Tensor, got: Tensor) -> str:
    return f"{name} is {to_word(got)}, expected {to_word(want)}"


def is_of_another_kind(want: Tensor, got: Tensor) -> bool:
    return want.is_floating_point() != got.is_floating_point()


def to_word(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
