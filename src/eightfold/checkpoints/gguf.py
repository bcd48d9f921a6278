"""GGUF files, versions 2 and 3 (the format's specification in the ggml repository): header, metadata and table of tensors."""

from __future__ import annotations

import json
import re
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path
from struct import calcsize, error, unpack_from
from typing import Any

from ..core.errors import CheckpointError
from .entries import Entry, Inventory
from .formats import AGAIN, DAMAGED, is_shape, show

# ggml's number of the type -> name, numbers in a block, bytes of a block
TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TEXT, ARRAY = 8, 9
MOST_TENSORS, MOST_PAIRS = 100_000, 200_000
MOST_ITEMS, MOST_BYTES = 2_000_000, 16_000_000  # of all arrays, and of all texts that are kept
LONGEST_LIST = 64
PLAIN_SHAPE = re.compile(r"\[\d{1,19}(, \d{1,19}){,15}\]", re.ASCII)
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."  # converters of image models store some tensors in rows of 256 and note the shape here
DEFAULT_ALIGNMENT = 32


def read_gguf_inventory(path: Path) -> Inventory:
    """Names, types, shapes and places from the header; quantised types are listed under ggml's name. Raises CheckpointError."""
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as file:
        cursor = Cursor(file)
        try:
            return read_header(path, cursor)
        except error:
            raise CheckpointError(f"{path} is truncated: its header breaks off at byte {cursor.at} of {len(file)}", hint=AGAIN) from None
        except ValueError as reason:
            raise CheckpointError(f"{path}: {show(reason)}", hint=DAMAGED) from None


class Cursor:
    """Reads forward. struct.error where the file ends, ValueError for what cannot be."""

    def __init__(self, file: mmap) -> None:
        self.file, self.at, self.items, self.bytes = file, 4, 0, 0

    def take(self, form: str) -> Any:
        value = unpack_from(form, self.file, self.at)[0]
        self.at += calcsize(form)
        return value

    def take_count(self, what: str, most: int) -> int:
        count = self.take("<Q")
        if count > most:
            raise ValueError(f"it claims {count} {what}, more than any model has")
        return count

    def take_text(self) -> str:
        length = self.take("<Q")
        self.bytes += length
        if self.bytes > MOST_BYTES:
            raise ValueError(f"its header claims {self.bytes} bytes of text, more than any model has")
        if self.at + length > len(self.file):
            raise error
        self.at += length
        return self.file[self.at - length : self.at].decode("utf-8", "replace")

    def take_value(self, kind: int) -> str:
        """A value of the metadata as text: an array as JSON, a long one only counted."""
        if kind == TEXT:
            return self.take_text()
        if kind == ARRAY:
            return self.take_array()
        if kind not in SCALARS:
            raise ValueError(f"its metadata have a value of the unknown type {kind}")
        return str(self.take(SCALARS[kind]))

    def take_array(self) -> str:
        kind, count = self.take("<I"), self.take("<Q")
        self.items += count if kind == TEXT or count <= LONGEST_LIST else 0
        if self.items > MOST_ITEMS:
            raise ValueError(f"its metadata list {self.items} items, more than any vocabulary")
        if kind == TEXT:
            for _ in range(count):
                length = self.take("<Q")
                if self.at + length > len(self.file):
                    raise error
                self.at += length
            return f"{count} texts"
        if kind not in SCALARS:
            raise ValueError(f"its metadata have an array of the unknown type {kind}")
        length = count * calcsize(SCALARS[kind])
        if self.at + length > len(self.file):
            raise error
        if count <= LONGEST_LIST:
            return json.dumps([self.take(SCALARS[kind]) for _ in range(count)])
        self.at += length
        return f"{count} numbers"


def read_header(path: Path, cursor: Cursor) -> Inventory:
    version = cursor.take("<I")
    if version not in (2, 3):
        order = " (or its bytes are in the other order)" if version > 1000 else ""
        raise CheckpointError(f"{path} is GGUF of version {version}{order}, expected 2 or 3", hint="convert it with a newer writer")
    tensors, pairs = cursor.take_count("tensors", MOST_TENSORS), cursor.take_count("entries of metadata", MOST_PAIRS)
    metadata: dict[str, str] = {}
    for _ in range(pairs):
        key = cursor.take_text()
        if key in metadata:
            raise ValueError(f"its metadata have {show(key)} twice")
        metadata[key] = cursor.take_value(cursor.take("<I"))
    parts = metadata.get("split.count", "1")
    if parts not in ("0", "1"):
        raise CheckpointError(f"{path} is one of {show(parts)} parts", hint="merge the parts with gguf-split --merge")
    rows = [read_row(cursor) for _ in range(tensors)]
    alignment = to_alignment(metadata)
    start = -(-cursor.at // alignment) * alignment
    entries = {name: to_entry(path, name, dtype, shape, start + offset, alignment, metadata) for name, dtype, shape, offset in rows}
    if len(entries) < len(rows):
        raise ValueError("two tensors have one name")
    check_places(path, entries, len(cursor.file))
    metadata = {key: value for key, value in metadata.items() if not key.startswith(ORIGINAL_SHAPE)}
    return Inventory(source=str(path), format="gguf", files=(path,), tensors=entries, metadata=metadata)


def read_row(cursor: Cursor) -> tuple[str, int, tuple[int, ...], int]:
    """Name, type number, shape with the slowest axis first (the file has it last), and offset in the data."""
    name, axes = cursor.take_text(), cursor.take("<I")
    if axes > 8:
        raise ValueError(f"tensor {show(name)} has {axes} axes")
    shape = tuple(cursor.take("<Q") for _ in range(axes))[::-1]
    return name, cursor.take("<I"), shape, cursor.take("<Q")


def to_alignment(metadata: dict[str, str]) -> int:
    text = metadata.get("general.alignment", str(DEFAULT_ALIGNMENT))
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) not in {2**power for power in range(3, 25)}:
        raise ValueError(f"its alignment is {show(text)}")
    return int(text)


def to_entry(path: Path, name: str, number: int, shape: tuple[int, ...], offset: int, alignment: int, metadata: dict[str, str]) -> Entry:
    if number not in TYPES:
        raise ValueError(f"tensor {show(name)} has the unknown type {number}")
    dtype, block, width = TYPES[number]
    row = shape[-1] if shape else 1
    if not is_shape([*shape, offset]) or row % block or offset % alignment:
        raise ValueError(f"tensor {show(name)} {dtype}{list(shape)} at byte {offset} cannot be")
    original = metadata.get(ORIGINAL_SHAPE + name)
    count = prod(shape)
    if original is not None:
        known = PLAIN_SHAPE.fullmatch(original) is not None
        numbers = [int(number) for number in original[1:-1].split(", ")] if known else []
        if not known or not is_shape(numbers) or prod(numbers) != count:
            raise ValueError(f"tensor {show(name)} {list(shape)} cannot have the original shape {show(original)}")
        shape = tuple(numbers)
    return Entry(dtype, shape, path, offset, count // block * width)


def check_places(path: Path, entries: dict[str, Entry], size: int) -> None:
    """No tensor may lie over another or reach beyond the file."""
    reached = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].length)):
        if entry.offset < reached:
            raise CheckpointError(f"{path}: tensor {show(name)} begins inside the one before it", hint=DAMAGED)
        reached = entry.offset + entry.length
    if reached > size:
        raise CheckpointError(f"{path} is truncated: its tensors end at byte {reached}, the file at {size}", hint=AGAIN)
