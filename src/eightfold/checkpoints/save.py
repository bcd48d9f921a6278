"""Tensors to safetensors files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.errors import CheckpointError
from ..core.files import write_atomically
from ..core.progress import Progress
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


class Pending(NamedTuple):
    """A tensor that is made when it is asked for; its type and shape are known before."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, overwrite: bool) -> None:
    """Write `tensors` under their names, atomically. The same content gives the same bytes, whatever the order it comes in.

    Raises OutputError when it cannot be written, CheckpointError for a tensor that the format cannot hold.
    """
    for name, tensor in tensors.items():
        to_dtype_name(name, tensor)
    for _ in write_pending(path, {name: to_pending(tensor) for name, tensor in tensors.items()}, metadata, overwrite=overwrite):
        pass


def to_pending(tensor: Tensor) -> Pending:
    return Pending(tensor.dtype, tuple(tensor.shape), lambda: tensor)


def write_pending(path: str | Path, tensors: Mapping[str, Pending], metadata: Mapping[str, str], *, overwrite: bool) -> Iterator[Progress]:
    """The same for tensors that are made one after the other: there is never more than one. Yields after each.

    Without the last event there is no file. What making a tensor raises ends the writing, and leaves nothing behind.
    """
    spelt = {name: to_dtype_name(name, tensor) for name, tensor in tensors.items()}
    names = sorted(tensors, key=lambda name: (-BITS[spelt[name]], name))  # wide types first keeps all aligned
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    place = 0
    for name in names:
        begin, place = place, place + prod(tensors[name].shape) * tensors[name].dtype.itemsize
        header[name] = {"dtype": spelt[name], "shape": list(tensors[name].shape), "data_offsets": [begin, place]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with write_atomically(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number, name in enumerate(names):
            yield Progress(task="writing", number=number, total=len(names))
            file.write(to_stored(tensors[name].read()))
    yield Progress(task="writing", number=len(names), total=len(names))


def to_dtype_name(name: str, tensor: Tensor | Pending) -> str:
    """The format's name for the tensor's type."""
    is_meta = isinstance(tensor, Tensor) and tensor.is_meta
    if tensor.dtype not in DTYPES or name == "__metadata__" or is_meta:
        what = "on the meta device" if is_meta else str(tensor.dtype)
        raise CheckpointError(f"tensor {name} ({what}) cannot be stored", hint=f"types that can: {', '.join(DTYPES.values())}")
    return DTYPES[tensor.dtype]


def to_stored(tensor: Tensor) -> memoryview:
    """The bytes of the tensor as the file holds them."""
    array = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return array.data
