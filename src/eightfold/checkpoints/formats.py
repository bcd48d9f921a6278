"""Reading the header of a weight file: names, shapes and types, no values, and no torch.

A safetensors file is a little-endian 64-bit length, that many bytes of JSON, and the bytes of the tensors.
Everything the header claims is checked against the size of the file before anybody relies on it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError

LONGEST_HEADER = 100_000_000  # bytes; the limit of the format
BITS = {
    **{"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "C64": 64},
    **{"I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8},
}
FOREIGN = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"RIFF", "a WebP picture"),
    (b"GGUF", "a GGUF file"),
    (b"PK\x03\x04", "a zip archive, such as a .ckpt or .pt of torch"),
    (b"\x80\x02", "a pickle, which is not opened because it can run code"),
    (b"version https://git-lfs", "a Git LFS pointer: the real file was not fetched"),
    (b"<", "a web page or XML"),
)


@dataclass(frozen=True)
class TensorInfo:
    """Type and shape of one stored tensor."""

    dtype: str
    shape: tuple[int, ...]


def read_safetensors_header(path: str | Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Tensor infos by name, and the metadata. Raises CheckpointError for a missing, truncated or foreign file."""
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(32)
            length = int.from_bytes(start[:8], "little")
            if size < 10 or not 2 <= length <= min(size - 8, LONGEST_HEADER) or start[8:9] != b"{":
                raise CheckpointError(describe_foreign(path, start, size, length), hint="a safetensors file is needed; `eightfold info FILE` says what a file is")
            file.seek(8)
            table = json.loads(file.read(length))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", hint="check the file's name") from None
    except ValueError:
        raise CheckpointError(f"{path}: its header is damaged", hint="the file may be truncated: fetch it again") from None
    if not isinstance(table, dict):
        raise CheckpointError(f"{path}: its header is not a table of tensors", hint="the file may be damaged: fetch it again")
    metadata = table.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: its metadata are not texts", hint="the file was written by a faulty program")
    return read_table(path, table, size - 8 - length), metadata


def read_table(path: Path, table: dict[str, Any], room: int) -> dict[str, TensorInfo]:
    """Check every entry: a known type, a sane shape, and bytes that are its own and inside the file."""
    infos: dict[str, TensorInfo] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in table.items():
        try:
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            sound = all(isinstance(side, int) and side >= 0 for side in (*shape, begin, end)) and dtype in BITS
        except (TypeError, KeyError, ValueError):
            sound, dtype, shape, begin, end = False, "", (), 0, 0
        if not sound or end - begin != -(-prod(shape) * BITS[dtype] // 8):
            raise CheckpointError(f"{path}: the entry of tensor {name!r} is damaged", hint="the file may be damaged: fetch it again")
        if end > room:
            raise CheckpointError(f"{path} is truncated: tensor {name!r} ends {end - room} bytes past the end of the file", hint="fetch the file again")
        infos[name] = TensorInfo(dtype, shape)
        spans.append((begin, end, name))
    spans.sort()
    for (_, end, name), (begin, _, other) in zip(spans, spans[1:], strict=False):
        if begin < end:
            raise CheckpointError(f"{path}: tensors {name!r} and {other!r} share bytes", hint="the file is damaged or forged: do not use it")
    return infos


def describe_foreign(path: Path, start: bytes, size: int, length: int) -> str:
    if not size:
        return f"{path} is empty"
    for signature, what in FOREIGN:
        if start.startswith(signature):
            return f"{path} is not a weight file but {what}"
    if start[8:9] == b"{" and length > size - 8:
        return f"{path} is truncated: it has {size} bytes and its header alone should have {length}"
    return f"{path} is not a safetensors file"
