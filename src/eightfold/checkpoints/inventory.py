"""What is in a weight file or folder of any known format, from its headers alone."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import CheckpointError
from .entries import Entry, Inventory
from .folder import is_index, read_folder, read_shards
from .formats import read_safetensors_layout
from .gguf import read_gguf_inventory
from .torchzip import read_torch_inventory

__all__ = ["Entry", "Inventory", "read_inventory"]

READERS = {b"PK\3\4": read_torch_inventory, b"GGUF": read_gguf_inventory}
OLD_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch.save put first before it wrote zip archives
OLD = "load it with the program that wrote it and save it again: torch.save writes a zip archive since version 1.6"


def read_inventory(path: str | Path) -> Inventory:
    """Every tensor's name, type, shape and place, and the metadata; no tensor is read, no code runs, torch is not loaded.

    `path` is a .safetensors file, an archive of torch.save, a .gguf file, an index of shards, or a folder in diffusers' layout. What a
    file is shows in its content; its name does not count. Raises CheckpointError, naming the file and what is wrong with it.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return read_folder(path, read_file)
        return read_shards(path, read_file) if is_index(path.name) and path.is_file() else read_file(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"cannot read {path}: {reason}", hint="check the path and your rights to read it") from None


def read_file(path: Path) -> Inventory:
    start = b""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(64)
    reader = READERS.get(start[:4])
    if reader is not None:
        return reader(path)
    if start[:1] == b"\x80" and start[1:2] in (b"\1", b"\2", b"\3", b"\4", b"\5") and start[8:9] != b"{":
        kind = "an old file of torch.save" if OLD_MAGIC in start else "a bare Python pickle"
        raise CheckpointError(f"{path} is {kind}, which cannot be read without running it", hint=OLD)
    layout = read_safetensors_layout(path)
    tensors = {
        name: Entry(info.dtype, info.shape, path, layout.spans[name][0], layout.spans[name][1] - layout.spans[name][0])
        for name, info in layout.tensors.items()
    }
    return Inventory(source=str(path), format="safetensors", files=(path,), tensors=tensors, metadata=layout.metadata)
