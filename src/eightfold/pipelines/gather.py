"""Which files are meant by the names of files and folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..core.errors import ImageError

SHEET = ".roundtrip.png"  # what a round trip leaves in a folder is not its picture the next time


def list_pictures(paths: Sequence[Path]) -> list[Path]:
    """The files as they are named, and for a folder every picture right in it, by name; each once.

    A picture is known by its ending; hidden files and the sheets of earlier round trips are left out. Raises ImageError for a folder
    that cannot be read or has none.
    """
    found = [one for path in paths for one in (list_folder(path) if path.is_dir() else [path])]
    return list(dict.fromkeys(found))


def list_folder(folder: Path) -> list[Path]:
    endings = list_endings()
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise ImageError(f"cannot read {folder}: {error.strerror}", hint="check your rights on that folder") from None
    found = [folder / name for name in names if not name.startswith(".") and is_picture(name, endings)]
    if not found:
        raise ImageError(
            f"{folder} has no picture in it", hint="name picture files, or a folder that has some; folders in it are not searched"
        )
    return found


def list_endings() -> set[str]:
    """Of the formats that `read_picture` reads."""
    from PIL import Image

    from ..codec.imageread import find_formats

    formats = find_formats()
    return {ending for ending, name in Image.registered_extensions().items() if name in formats}


def is_picture(name: str, endings: set[str]) -> bool:
    """Whether a file in a folder is one of its pictures, by its name; `endings` are those of `list_endings`."""
    return Path(name).suffix.lower() in endings and not name.endswith(SHEET)


def walk_folder(folder: Path, fits: Callable[[str], bool]) -> Iterator[Path | OSError]:
    """The files below `folder` whose names fit, sorted, and the folders in it that cannot be read as the error that says so.

    Hidden files and folders are left out, our own unfinished files among them; a link to a folder is not followed.
    """
    lost: list[OSError] = []
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=lost.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".") and fits(name)]
    yield from sorted(found)
    yield from lost
