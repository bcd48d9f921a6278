"""A writer of GGUF files, for tests: just enough of the format, and willing to write what is wrong."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SCALARS = {"u8": 0, "i8": 1, "u16": 2, "i16": 3, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "u64": 10, "i64": 11, "f64": 12}
FORMS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
F32, F16, Q4_0, Q8_0, Q4_K, BF16 = 0, 1, 2, 8, 12, 30


class Row(NamedTuple):
    """`shape` in torch's order; `offset` in place of where the tensor really lies."""

    name: str
    number: int
    shape: Sequence[int]
    data: bytes
    offset: int | None = None


def to_text(text: str | bytes) -> bytes:
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text


def to_value(value: Any) -> bytes:
    """A text, a pair (type, number), or a pair (type, list); "text" is a type of lists too."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + to_text(value)
    kind, content = value
    if kind == "text":
        return struct.pack("<IIQ", 9, 8, len(content)) + b"".join(to_text(one) for one in content)
    number = SCALARS[kind]
    if isinstance(content, list):
        return struct.pack("<IIQ", 9, number, len(content)) + b"".join(struct.pack(FORMS[number], one) for one in content)
    return struct.pack("<I", number) + struct.pack(FORMS[number], content)


def to_gguf(rows: Sequence[Row], metadata: Mapping[str, Any] | None = None, *, version: int = 3, alignment: int = 32) -> bytes:
    metadata = metadata or {}
    head = b"GGUF" + struct.pack("<IQQ", version, len(rows), len(metadata))
    for key, value in metadata.items():
        head += to_text(key) + to_value(value)
    data = b""
    for row in rows:
        data += bytes(-len(data) % alignment)
        offset = len(data) if row.offset is None else row.offset
        head += to_text(row.name) + struct.pack(f"<I{len(row.shape)}Q", len(row.shape), *reversed(row.shape))
        head += struct.pack("<IQ", row.number, offset)
        data += row.data
    return head + bytes(-len(head) % alignment) + data
