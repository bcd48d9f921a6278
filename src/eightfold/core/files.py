"""Writing files so that a reader never sees half of one, and nothing is lost when the disk is full."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from .errors import OutputError


@contextmanager
def write_atomically(path: str | Path, *, overwrite: bool) -> Generator[Path, None, None]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path` in one step, otherwise it is removed.

    An existing `path` is kept, with an OutputError, unless `overwrite`.
    """
    path = Path(path)
    if not path.name:
        raise OutputError(f"{str(path)!r} is not a file name", hint="--out names a file")
    refuse_existing(path, overwrite=overwrite)
    temporary = path.with_name(f".{path.stem[:40]}.{token_hex(6)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # a plain new file has the rights that the umask gives
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        place(temporary, path, overwrite=overwrite)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}", hint="check the space left and the rights on that folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def refuse_existing(path: str | Path, *, overwrite: bool) -> None:
    """Raise an OutputError if `path` is there already and may not be replaced: ask before the work, not after it."""
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path} exists already and was kept", hint="--overwrite replaces it, --out names another place")


def place(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)  # unlike a rename, fails if somebody else made the file meanwhile
    except FileExistsError:
        refuse_existing(path, overwrite=False)
    except OSError:  # a file system without hard links
        refuse_existing(path, overwrite=False)
        temporary.replace(path)
