"""Files known again by their content: SHA-256, and the hash that A1111 gives a LoRA. No torch here.

Hashes of large files are kept in the user's cache folder, by path, size and time, so that each is read for it once.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError, EightfoldError
from .folder import SUFFIXES
from .formats import read_safetensors_layout
from .known import read_table, write_table

TABLE = "hashes.json"
LARGE = 2**24  # bytes: below, reading is as fast as looking it up
MOST_KEPT = 2000
BLOCK = 2**20
ADDNET = "sshs_model_hash"  # where kohya's trainer wrote the second hash itself


def hash_file(path: str | Path) -> str:
    """SHA-256 of the bytes, as 64 hexadecimal digits. Raises CheckpointError for what cannot be read."""
    return look_up(Path(path), "file")


def hash_weights(path: str | Path) -> str:
    """What A1111 shortens to 12 digits under `Lora hashes` (extensions-builtin/Lora/network.py, modules/hashes.py): of a safetensors file
    what the trainer wrote down, else SHA-256 of all behind the header, which stays the same when metadata are edited; of others that
    of the file.
    """
    return look_up(Path(path), "weights")


def hash_path(path: str | Path) -> str:
    """Of a file as `hash_file`; of a folder, of the names and hashes of the weight files in it and in its folders."""
    path = Path(path)
    if not path.is_dir():
        return hash_file(path)
    found = sorted(one for one in (*path.glob("*"), *path.glob("*/*")) if one.suffix in SUFFIXES and one.is_file())
    return sha256("".join(f"{one.relative_to(path).as_posix()} {hash_file(one)}\n" for one in found).encode()).hexdigest()


def look_up(path: Path, sort: str) -> str:
    try:
        state = path.stat()
    except (OSError, ValueError) as error:
        raise refuse(path, error) from None
    return find(path, sort, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def find(path: Path, sort: str, size: int, time: int) -> str:
    """From this run, else from the cache folder, else from the file."""
    key, state = f"{sort} {path.absolute()}", [size, time]
    kept: dict[str, Any] = {}
    if size >= LARGE:
        with suppress(CheckpointError):
            kept = read_table(TABLE)
        entry = kept.get(key)
        if isinstance(entry, list) and entry[:2] == state and len(entry) == 3 and isinstance(entry[2], str):
            return entry[2]
    digest = read_digest(path) if sort == "file" else read_weights_digest(path)
    if size >= LARGE:
        with suppress(EightfoldError):  # a cache that cannot be written only costs time
            write_table(TABLE, dict([*kept.items(), (key, [*state, digest])][-MOST_KEPT:]))
    return digest


def read_digest(path: Path, start: int = 0) -> str:
    digest = sha256()
    try:
        with path.open("rb") as file:
            file.seek(start)
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise refuse(path, error) from None
    return digest.hexdigest()


def read_weights_digest(path: Path) -> str:
    if path.suffix.lower() != ".safetensors":
        return read_digest(path)
    said = read_safetensors_layout(path).metadata.get(ADDNET, "")
    if said:
        return said
    with path.open("rb") as file:
        return read_digest(path, 8 + int.from_bytes(file.read(8), "little"))


def refuse(path: Path, error: Exception) -> CheckpointError:
    reason = error.strerror if isinstance(error, OSError) else error
    return CheckpointError(f"cannot read {path}: {reason}", hint="check the path and your rights to read it")
