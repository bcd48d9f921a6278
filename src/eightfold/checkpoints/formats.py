"""What is in a weight file, from its header alone, and what a file is that is not one. Nothing here executes or loads the content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from ..core.errors import CheckpointError

AUTOENCODER, DENOISER, TEXT = ("autoencoder.", "denoiser.", "text.")  # the prefixes in a file with a whole model
LONGEST_HEADER = 25_000_000  # bytes; the format's own limit, 100 MB, could take gigabytes to parse
MOST_TABLES, MOST_ITEMS = 110_000, 1_000_000  # braces and commas in it: what costs memory is their number, not their bytes
MOST_AXES, LARGEST = 66, 2**63 - 1  # of a shape; more or larger numbers would take for ever to multiply
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
LOOKS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"RIFF", "a WebP picture"),
    (b"PK\x03\x04", "a zip archive, as torch.save writes them (.ckpt, .pt, .bin)"),
    (b"\x80\x02", "a Python pickle (.ckpt, .pt, .bin)"),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)
AGAIN = "the download or copy was cut short: fetch the file again"
DAMAGED = "the file is damaged: fetch it again"
EXPECTED = "weights are .safetensors files, torch.save archives (.ckpt, .pt, .pth, .bin) or .gguf files"


class TensorInfo(NamedTuple):
    """`dtype` as the format spells it, such as F32 or BF16."""

    dtype: str
    shape: tuple[int, ...]


T = TypeVar("T")


def take_part(tensors: Mapping[str, T], prefix: str) -> dict[str, T]:
    """What stands under `prefix`, by the rest of its name."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


class Header(NamedTuple):
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]


class Layout(NamedTuple):
    """A header with the place of every tensor: its first byte in the file, and the one behind its last."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    spans: dict[str, tuple[int, int]]


def show(text: object, longest: int = 120) -> str:
    """Something out of a file, fit for a message: one line, printable, not endless."""
    try:
        shown = str(text)
    except ValueError:  # a number of thousands of digits
        shown = type(text).__name__
    shown = shown if len(shown) <= longest else f"{shown[:longest]}..."
    return shown if shown.isprintable() else ascii(shown)


def read_safetensors_header(path: str | Path) -> Header:
    """Names, types and shapes of the tensors in a safetensors file, and its metadata; no tensor is read.

    The header is checked in full: every tensor lies where its type and shape say, side by side, up to the end of the file.
    Raises CheckpointError for anything else, naming what the file looks like.
    """
    layout = read_safetensors_layout(path)
    return Header(layout.tensors, layout.metadata)


def read_safetensors_layout(path: str | Path) -> Layout:
    """The same with the place of every tensor."""
    path = Path(path)
    try:
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder", hint="name the .safetensors file in it")
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} is not a regular file", hint=EXPECTED)
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(64)
            length = int.from_bytes(start[:8], "little")
            if size < 8 or not 2 <= length < 2**48 or start[8:9] not in (b"", b"{"):
                refuse_foreign(path, start)
            if length > LONGEST_HEADER:
                raise CheckpointError(f"{path} claims a header of {length} bytes, more than any model has", hint=DAMAGED)
            if 8 + length > size:
                raise CheckpointError(f"{path} is truncated: its header takes {length} bytes, the file has {size}", hint=AGAIN)
            file.seek(8)
            text = file.read(length)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"cannot read {path}: {reason}", hint="check the path; weights are .safetensors files") from None
    return check_header(path, parse_header(path, text), size, 8 + length)


def refuse_foreign(path: Path, start: bytes) -> NoReturn:
    if not start:
        raise CheckpointError(f"{path} is empty", hint=AGAIN)
    look = next((name for magic, name in LOOKS if start.startswith(magic)), "")
    if not look and start.startswith(b"\x80"):
        look = "a Python pickle (.ckpt, .pt, .bin)"
    if not look:
        text = all(byte in b"\t\n\r" or byte >= 32 for byte in start)
        look = "a text file" if text else "something else"
    raise CheckpointError(f"{path} is not a safetensors file; it looks like {look}", hint=EXPECTED)


def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For JSON tables: of two values under one name another reader may take the other."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name is there twice")
    return table


def parse_header(path: Path, text: bytes) -> dict[str, Any]:
    if text.count(b"{") > MOST_TABLES or text.count(b",") > MOST_ITEMS:
        raise CheckpointError(f"{path}: its header has more tables or items than any model", hint=EXPECTED)
    try:
        table = json.loads(text, object_pairs_hook=refuse_twice)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: its header is not JSON ({show(error)})", hint=EXPECTED) from None
    if not isinstance(table, dict):
        raise CheckpointError(f"{path} is not a safetensors file: its header is no table", hint=EXPECTED)
    return table


def check_header(path: Path, table: dict[str, Any], size: int, start: int) -> Layout:
    """`size` is that of the file in bytes, `start` where the tensors begin in it."""
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: its metadata are not texts", hint=EXPECTED)
    tensors: dict[str, TensorInfo] = {}
    spans: dict[str, tuple[int, int]] = {}
    for name, entry in table.items():
        tensors[name], begin, end = check_entry(path, name, entry)
        spans[name] = start + begin, start + end
    reached = start
    for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != reached:
            where = f"begins at byte {begin - start}, expected {reached - start}"
            raise CheckpointError(f"{path}: tensor {show(name)} {where}", hint=DAMAGED)
        reached = end
    if reached > size:
        raise CheckpointError(f"{path} is truncated: its tensors take {reached - start} bytes, the file has {size - start}", hint=AGAIN)
    if reached < size:
        raise CheckpointError(f"{path}: {size - reached} bytes behind its last tensor", hint=DAMAGED)
    return Layout(tensors, metadata, spans)


def check_entry(path: Path, name: str, entry: Any) -> tuple[TensorInfo, int, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise CheckpointError(f"{path}: the entry of tensor {show(name)} lacks its type, shape or place", hint=EXPECTED) from None
    if not isinstance(dtype, str) or dtype not in BITS:
        raise CheckpointError(f"{path}: tensor {show(name)} has the unknown type {show(repr(dtype))}", hint=f"known: {', '.join(BITS)}")
    if not isinstance(shape, list) or not is_shape([*shape, begin, end]):
        raise CheckpointError(f"{path}: tensor {show(name)} has the shape {show(shape)} at bytes {show((begin, end))}", hint=DAMAGED)
    bits = prod(shape) * BITS[dtype]
    if bits != 8 * (end - begin):
        raise CheckpointError(f"{path}: tensor {show(name)} {dtype}{shape} needs {bits // 8} bytes, has {end - begin}", hint=DAMAGED)
    return TensorInfo(dtype, tuple(shape)), begin, end


def is_shape(numbers: Any) -> bool:
    """Whether it is a list or tuple of so few and so small whole numbers that they may be multiplied."""
    if not isinstance(numbers, list | tuple) or len(numbers) > MOST_AXES:
        return False
    return all(type(number) is int and 0 <= number <= LARGEST for number in numbers)
