"""Archives of torch.save (.ckpt, .pt, .pth, .bin): a zip of one pickle and one entry of plain numbers a storage."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from math import prod
from mmap import ACCESS_READ, mmap
from operator import mul
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError
from .entries import Entry, Inventory
from .formats import AGAIN, BITS, DAMAGED, show
from .picklereader import Inert, Pickled, View, read_pickle
from .ziptable import Item, Span, find_span, read_zip_table

LONGEST_PICKLE = 32_000_000
MOST_TENSORS = 100_000
MOST_REPEATED = 2**24  # numbers of a tensor whose axes repeat its storage
LONGEST_TEXT = 1000
# Where trainers put the weights, the likeliest first
HOLDERS = ("state_dict", "model_state_dict", "model", "module", "params_ema", "params", "net", "weights", "state_dict_ema", "ema")
SAVE = "load it with the code that wrote it, and save model.state_dict() with safetensors"


def read_torch_inventory(path: Path) -> Inventory:
    """The tensors of the weights table in the archive, wherever the trainer nested it; numbers and texts beside it are metadata.

    No code of the file runs. Raises CheckpointError.
    """
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as file:
        table = read_zip_table(path, file)
        base = find_base(path, table)
        check_byte_order(path, file, table, base)
        pickled = read_records(path, file, table[f"{base}data.pkl"])
        weights = find_weights(path, pickled.root)
        if len(weights) > MOST_TENSORS:
            raise CheckpointError(f"{path} lists {len(weights)} tensors, more than any model has", hint=DAMAGED)
        tensors, skipped = {}, []
        known: dict[int, Entry] = {}  # by the object: many names may share one tensor
        for name, value in weights.items():
            if isinstance(value, View):
                if id(value) not in known:
                    known[id(value)] = to_entry(path, file, name, value, table.get(f"{base}data/{value.storage.key}"))
                tensors[name] = known[id(value)]
            elif isinstance(value, Inert):
                skipped.append(f"{show(name)}: a {show(value.name.name)}, which is not read")
        used = {value.storage.key for value in weights.values() if isinstance(value, View)}
        check_spans(path, [find_span(path, file, table[f"{base}data/{key}"]) for key in used])
    notes = [f"names without a meaning here, not called: {', '.join(pickled.unknown)}"] if pickled.unknown else []
    metadata = {**to_texts(pickled.root), **to_texts(weights)}
    return Inventory(source=str(path), format="torch", files=(path,), tensors=tensors, metadata=metadata, notes=(*notes, *skipped[:20]))


def check_spans(path: Path, spans: list[Span]) -> None:
    for one, other in pairwise(sorted(spans)):
        if one.offset + one.length > other.offset:
            raise CheckpointError(f"{path}: two entries share the bytes from {other.offset} on", hint=DAMAGED)


def find_base(path: Path, table: Mapping[str, Item]) -> str:
    """The folder inside the archive, with its slash."""
    bases = [name.removesuffix("data.pkl") for name in table if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(bases) != 1:
        raise CheckpointError(f"{path} is a zip archive, but torch.save did not write it", hint="unpack it and name the weight file in it")
    if f"{bases[0]}constants.pkl" in table:
        raise CheckpointError(f"{path} is a TorchScript program, not weights", hint=SAVE)
    return bases[0]


def check_byte_order(path: Path, file: mmap, table: Mapping[str, Item], base: str) -> None:
    item = table.get(f"{base}byteorder")
    if item is None:
        return
    begin, length = find_span(path, file, item)
    order = file[begin : begin + min(length, 16)]
    if order != b"little":
        raise CheckpointError(f"{path} has its bytes in the order {show(order)}, expected little", hint=SAVE)


def read_records(path: Path, file: mmap, item: Item) -> Pickled:
    begin, length = find_span(path, file, item)
    if length > LONGEST_PICKLE:
        raise CheckpointError(f"{path}: its data.pkl has {length} bytes, more than any model needs", hint=DAMAGED)
    try:
        return read_pickle(file[begin : begin + length])
    except ValueError as error:
        raise CheckpointError(f"{path}: its data.pkl is broken: {show(error)}", hint=DAMAGED) from None


def to_items(value: Any) -> dict[str, Any]:
    """What a dict, or an unknown class that was filled like one, holds; nothing for anything else."""
    return value.items if isinstance(value, Inert) else value if isinstance(value, dict) else {}


def find_weights(path: Path, root: Any) -> dict[str, Any]:
    """The table whose values are tensors: the root, or what it holds under a trainer's usual name, or its only one."""
    seen: dict[int, bool] = {}  # many names may share one huge table

    def holds_tensors(value: Any) -> bool:
        if id(value) not in seen:
            seen[id(value)] = any(isinstance(part, View) for part in to_items(value).values())
        return seen[id(value)]

    table = root
    for _ in range(4):
        items = to_items(table)
        inside = [name for name, value in items.items() if holds_tensors(value)]
        held = [name for name in HOLDERS if name in inside]
        if holds_tensors(table) and not held:
            return items
        if not held and len(inside) > 1:
            names = show(", ".join(inside[:20]))
            raise CheckpointError(f"{path} holds several tables of tensors: {names}", hint="save one of them to a file of its own")
        deeper = held or inside or [name for name in HOLDERS if to_items(items.get(name))]
        if not deeper:
            break
        table = items[deeper[0]]
    what = f"a Python object ({show('.'.join(root.name))})" if isinstance(root, Inert) else f"a {type(root).__name__}"
    raise CheckpointError(f"{path} holds {what}, no table of tensors", hint=SAVE)


def to_texts(value: Any) -> dict[str, str]:
    """Numbers and short texts, as texts."""
    found: dict[str, str] = {}
    for name, part in to_items(value).items():
        short = len(part) <= LONGEST_TEXT if isinstance(part, str) else isinstance(part, float)
        if short or (isinstance(part, int) and abs(part) < 2**63):
            found[name] = str(part)
    return found


def to_entry(path: Path, file: mmap, name: str, view: View, item: Item | None) -> Entry:
    """The tensor's place in the file, checked: it must lie in its storage, and the storage in its entry."""
    if item is None:
        raise CheckpointError(f"{path} lacks the numbers of tensor {show(name)}, entry {show(view.storage.key)}", hint=AGAIN)
    begin, length = find_span(path, file, item)
    width, count = BITS[view.storage.dtype] // 8, prod(view.shape)
    reach = sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True)) + 1 if count else 0
    if view.storage.size * width > length:
        raise CheckpointError(f"{path}: tensor {show(name)} needs {view.storage.size * width} bytes, has {length}", hint=DAMAGED)
    if view.offset + reach > view.storage.size:
        what = f"{view.offset + reach} numbers of a storage of {view.storage.size}"
        raise CheckpointError(f"{path}: tensor {show(name)} {list(view.shape)} uses {what}", hint=DAMAGED)
    if count > max(reach, MOST_REPEATED):
        raise CheckpointError(f"{path}: tensor {show(name)} {list(view.shape)} repeats {reach} numbers", hint=DAMAGED)
    plain = count <= 1 or view.strides == to_plain_strides(view.shape)
    strides = None if plain else view.strides
    return Entry(view.storage.dtype, view.shape, path, begin + view.offset * width, reach * width, strides)


def to_plain_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Those of a tensor without gaps."""
    return tuple(accumulate(shape[:0:-1], mul, initial=1))[::-1][: len(shape)]
