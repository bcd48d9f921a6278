"""Weights from files into networks: built without memory, read by memory map, assigned strictly."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from ..core.errors import CheckpointError, WeightMismatch
from ..nn.kernels.pool import ALIGNMENT, map_memory
from .entries import Entry, Inventory
from .formats import AGAIN, show
from .inventory import read_inventory
from .quantised import BLOCKS, dequantise
from .save import DTYPES

M = TypeVar("M", bound=nn.Module)
MAPPED: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()  # by the address of the first byte, while something is read from it
CAN_RELEASE = hasattr(mmap, "MADV_DONTNEED")


def read_tensors(source: str | Path | Inventory, prefix: str = "") -> dict[str, Tensor]:
    """The tensors whose name begins with `prefix`, under the rest of their name, out of any file or folder that can be listed.

    They are views of the mapped file, so nothing is read before it is used; only quantised ones (Q8_0, Q4_0: float32) and those at odd
    addresses are copies. A write to one stays in memory. Raises CheckpointError.
    """
    inventory = source if isinstance(source, Inventory) else read_inventory(source)  # a broken file is named before any tensor is touched
    entries = {name.removeprefix(prefix): entry for name, entry in inventory.tensors.items() if name.startswith(prefix)}
    maps = {file: map_file(file) for file in {entry.file for entry in entries.values()}}
    return {name: to_tensor(name, entry, maps[entry.file]) for name, entry in entries.items()}


def map_file(path: Path) -> Tensor:
    """All of the file as bytes; memory is taken page by page where it is used."""
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {show(error)}", hint="the file may have moved: check the path") from None
    content = torch.frombuffer(mapped, dtype=torch.uint8)
    MAPPED[content.data_ptr()] = mapped
    return content


def let_go(tensor: Tensor) -> None:
    """Give the memory of a tensor of a mapped file back, until it is read again; of one that was written to, what was written is lost."""
    start = tensor.untyped_storage().data_ptr()
    mapped = MAPPED.get(start)
    if mapped is None or not CAN_RELEASE or not tensor.is_contiguous():
        return
    first = -(-(tensor.data_ptr() - start) // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (tensor.data_ptr() - start + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def to_tensor(name: str, entry: Entry, file: Tensor) -> Tensor:
    """The tensor at its place in the mapped file."""
    content = file[entry.offset : entry.offset + entry.length]
    if len(content) < entry.length:
        raise CheckpointError(f"{entry.file} has shrunk to {len(file)} bytes since its header was read", hint=AGAIN)
    dtype = to_dtype(name, entry)
    if entry.dtype in BLOCKS:
        return dequantise(content, entry.dtype).reshape(entry.shape)
    if not entry.length:
        return torch.empty(entry.shape, dtype=dtype)
    numbers = (content.clone() if entry.offset % dtype.itemsize else content).view(dtype)
    return numbers.view(entry.shape) if entry.strides is None else numbers.as_strided(entry.shape, entry.strides)


def to_dtype(name: str, entry: Entry) -> torch.dtype:
    """The type that the tensor has once it is read. Raises CheckpointError for one that cannot be."""
    dtype = torch.float32 if entry.dtype in BLOCKS else next((dtype for dtype, known in DTYPES.items() if known == entry.dtype), None)
    if dtype is None:
        known = ", ".join([*DTYPES.values(), *BLOCKS])
        raise CheckpointError(f"{entry.file}: tensor {show(name)} is {entry.dtype}, which cannot be read", hint=f"types that can: {known}")
    return dtype


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
    module.load_state_dict(place(tensors, torch.device(device), dtype), strict=True, assign=True)
    return module.eval().requires_grad_(False)


def place(tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The same tensors on the device and in the type, whole numbers in their own; what has both stays where it is.

    On a CPU all that is converted stands in one piece of memory, which goes back to the system with the last of it. Freed one by one,
    thousands of tensors leave holes that the next model's do not fit into: twenty models later the process has grown threefold.
    """
    changed = {name: one for name, one in tensors.items() if one.is_floating_point() and one.dtype != dtype} if device.type == "cpu" else {}
    sizes = {name: -(-one.numel() * dtype.itemsize // ALIGNMENT) * ALIGNMENT for name, one in changed.items()}
    piece = (
        torch.frombuffer(map_memory(sum(sizes.values())), dtype=torch.uint8) if any(sizes.values()) else torch.empty(0, dtype=torch.uint8)
    )
    ready: dict[str, Tensor] = {}
    begin = 0
    for name, tensor in tensors.items():
        if name in changed:
            ready[name] = piece[begin : begin + tensor.numel() * dtype.itemsize].view(dtype).view(tensor.shape).copy_(tensor)
            begin += sizes[name]
        else:
            ready[name] = tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
        if ready[name] is not tensor:
            let_go(tensor)
    return ready


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
