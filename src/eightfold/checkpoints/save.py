"""Tensors to safetensors files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import CheckpointError
from ..core.files import write_atomically
from .formats import BITS

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, overwrite: bool) -> None:
    """Write `tensors` under their names, atomically. The same content gives the same bytes, whatever the order it comes in.

    Raises OutputError when it cannot be written, CheckpointError for a tensor that the format cannot hold.
    """
    names = sorted(tensors, key=lambda name: (-BITS[to_dtype_name(name, tensors[name])], name))  # wide types first keeps all aligned
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    place = 0
    for name in names:
        tensor, begin = tensors[name], place
        place += tensor.numel() * tensor.element_size()
        header[name] = {"dtype": to_dtype_name(name, tensor), "shape": list(tensor.shape), "data_offsets": [begin, place]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with write_atomically(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(to_stored(tensors[name]))


def to_dtype_name(name: str, tensor: Tensor) -> str:
    """The format's name for the tensor's type."""
    if tensor.dtype not in DTYPES or name == "__metadata__" or tensor.is_meta:
        what = "on the meta device" if tensor.is_meta else str(tensor.dtype)
        raise CheckpointError(f"tensor {name} ({what}) cannot be stored", hint=f"types that can: {', '.join(DTYPES.values())}")
    return DTYPES[tensor.dtype]


def to_stored(tensor: Tensor) -> memoryview:
    """The bytes of the tensor as the file holds them."""
    array = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return array.data
