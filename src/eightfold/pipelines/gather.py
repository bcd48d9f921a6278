"""Which pictures are meant by the names of files and folders."""

from __future__ import annotations

from collections.abc import Sequence
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
    fitting = [name for name in names if Path(name).suffix.lower() in endings]
    found = [folder / name for name in fitting if not name.startswith(".") and not name.endswith(SHEET)]
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
