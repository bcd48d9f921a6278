"""The table of contents of a zip archive (PKWARE APPNOTE 6.3.10, with zip64): where each stored entry lies. Nothing is unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from pathlib import Path
from struct import Struct, error
from typing import NamedTuple

from ..core.errors import CheckpointError
from .formats import AGAIN, DAMAGED, show

END = Struct("<4s4H2LH")
END_64_PLACE = Struct("<4sLQL")
END_64 = Struct("<4sQ2H2L4Q")
CENTRAL = Struct("<4s6H3L5H2L")
LOCAL = Struct("<4s5H3L2H")
FULL, FULL_COUNT = 0xFFFFFFFF, 0xFFFF  # stand for a number that is in a zip64 field
LONGEST_COMMENT = 0xFFFF
MOST_BYTES, MOST_ENTRIES = 16_000_000, 110_000  # of the table; one entry is one tensor
REPACK = "unpack it and write it again with torch.save, which stores without compression"


class Item(NamedTuple):
    """As the central table has it; `place` is where the entry's own header begins."""

    name: str
    method: int
    flags: int
    packed: int
    size: int
    place: int


class Span(NamedTuple):
    offset: int
    length: int


def read_zip_table(path: Path, file: mmap) -> dict[str, Item]:
    """Every entry by its name. Raises CheckpointError for a table that cannot be."""
    try:
        start, length, count = find_table(file)
        if length > MOST_BYTES or count > MOST_ENTRIES:
            raise CheckpointError(f"{path} lists {count} entries in {length} bytes, more than any model has", hint=DAMAGED)
        if start + length > len(file):
            raise CheckpointError(f"{path} is truncated: its table ends at byte {start + length} of {len(file)}", hint=AGAIN)
        items = list(walk_table(file[start : start + length]))
    except error:
        raise CheckpointError(f"{path} is damaged: its table of contents breaks off", hint=DAMAGED) from None
    except ValueError as reason:
        raise CheckpointError(f"{path} is no whole zip archive: {show(reason)}", hint=AGAIN) from None
    if len(items) != count:
        raise CheckpointError(f"{path} has {len(items)} entries, its table says {count}", hint=DAMAGED)
    table = {item.name: item for item in items}
    if len(table) < len(items):
        raise CheckpointError(f"{path} has two entries of one name", hint=DAMAGED)
    return table


def find_table(file: mmap) -> tuple[int, int, int]:
    """Where the table begins, its bytes and its count of entries."""
    place = file.rfind(b"PK\5\6", max(0, len(file) - END.size - LONGEST_COMMENT))
    if place < 0:
        raise ValueError("its end is missing")
    _, _, _, _, count, length, start, _ = END.unpack_from(file, place)
    if place >= END_64_PLACE.size and (count == FULL_COUNT or FULL in (length, start)):
        magic, _, far, _ = END_64_PLACE.unpack_from(file, place - END_64_PLACE.size)
        if magic == b"PK\6\7":
            if far > len(file):
                raise ValueError("its zip64 end lies outside of the file")
            magic, *_, count, length, start = END_64.unpack_from(file, far)
            if magic != b"PK\6\6":
                raise ValueError("its zip64 end is not where it should be")
    return start, length, count


def walk_table(table: bytes) -> Iterator[Item]:
    at = 0
    while at < len(table):
        magic, _, _, flags, method, _, _, _, packed, size, name_length, extra_length, comment, *_, place = CENTRAL.unpack_from(table, at)
        at += CENTRAL.size
        if magic != b"PK\1\2" or at + name_length + extra_length + comment > len(table):
            raise ValueError("an entry of its table is broken")
        name = table[at : at + name_length].decode("utf-8", "replace")
        extra = table[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment
        if FULL in (size, packed, place):
            size, packed, place = to_wide(extra, size, packed, place)
        yield Item(name, method, flags, packed, size, place)


def to_wide(extra: bytes, *numbers: int) -> list[int]:
    """The numbers with those that are full replaced, in their order, by the fields of the zip64 record."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = int.from_bytes(extra[at : at + 2], "little"), int.from_bytes(extra[at + 2 : at + 4], "little")
        if kind == 1:
            fields = iter(extra[at + 4 : at + 4 + length][i : i + 8] for i in range(0, length, 8))
            return [int.from_bytes(next(fields, b""), "little") if number == FULL else number for number in numbers]
        at += 4 + length
    return list(numbers)


def find_span(path: Path, file: mmap, item: Item) -> Span:
    """Where the entry's bytes lie. Only entries stored as they are can be read in place: anything else is refused."""
    name = show(item.name)
    if item.method or item.packed != item.size or item.flags & 1:
        how = "encrypted" if item.flags & 1 else "compressed"
        raise CheckpointError(f"{path}: entry {name} is {how}", hint=REPACK)
    if item.place + LOCAL.size > len(file):
        raise CheckpointError(f"{path} is truncated: entry {name} begins at byte {item.place} of {len(file)}", hint=AGAIN)
    magic, _, _, method, _, _, _, _, _, name_length, extra_length = LOCAL.unpack_from(file, item.place)
    begin = item.place + LOCAL.size + name_length + extra_length
    if magic != b"PK\3\4" or method:
        raise CheckpointError(f"{path}: entry {name} is not where the table says", hint=DAMAGED)
    if begin + item.size > len(file):
        raise CheckpointError(f"{path} is truncated: entry {name} ends at byte {begin + item.size} of {len(file)}", hint=AGAIN)
    return Span(begin, item.size)
