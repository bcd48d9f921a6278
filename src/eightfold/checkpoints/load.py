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
    missing = [name for name in expected if name not in found]
    foreign = [name for name in found if name not in expected]
    wrong = [name for name in expected if name in found and expected[name].shape != found[name].shape]
    if not (missing or foreign or wrong):
        return
    parts = [f"{len(names)} {what} ({names[0]}, ...)" for what, names in (("missing", missing), ("unknown", foreign)) if names]
    if wrong:
        name = wrong[0]
        parts.append(f"{name} is {list(found[name].shape)}, expected {list(expected[name].shape)}")
    raise WeightMismatch(f"{source} does not fit the network: {'; '.join(parts)}", hint="`eightfold info FILE` lists what is in it")
