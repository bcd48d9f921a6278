"""Tensors to safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from ..core.files import write_atomically


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, overwrite: bool) -> None:
    """Write `tensors` under their names, atomically."""
    with write_atomically(path, overwrite=overwrite) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(temporary), metadata=dict(metadata))
