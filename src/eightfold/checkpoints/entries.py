"""What a weight file holds: names, types, shapes and places, without a number of any tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Literal, NamedTuple

from .formats import take_part

Format = Literal["safetensors", "torch", "gguf", "shards", "folder"]


class Entry(NamedTuple):
    """One tensor. `offset` is its first byte in `file`, `length` the bytes from there to its end.

    `dtype` is spelt as safetensors spells it, or as ggml does for quantised types (Q4_K). `strides` count numbers; None: no gaps.
    """

    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    length: int
    strides: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The tensors of a file, of its shards or of a folder, by name.

    In a diffusers folder the names begin with the component's folder (`vae/decoder.conv_in.weight`), and so do the metadata's keys.
    `notes` tell what was left aside.
    """

    source: str
    format: Format
    files: tuple[Path, ...]
    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.tensors.items()}

    @property
    def parameters(self) -> int:
        """The count of numbers in all tensors."""
        return sum(prod(entry.shape) for entry in self.tensors.values())

    def take(self, prefix: str) -> Inventory:
        """The part under `prefix`, by the rest of its names. Metadata belong to the whole file, or to a component's folder."""
        metadata = take_part(self.metadata, prefix) if self.format == "folder" and prefix.endswith("/") else self.metadata
        return self.keep(take_part(self.tensors, prefix), metadata)

    def keep(self, tensors: Mapping[str, Entry], metadata: Mapping[str, str]) -> Inventory:
        used = {entry.file for entry in tensors.values()}
        return replace(self, tensors=tensors, metadata=metadata, files=tuple(file for file in self.files if file in used))
