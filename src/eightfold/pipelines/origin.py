"""What a result was made from, as it says itself, so that a second run can tell what is done by content and not by name or date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from ..checkpoints.formats import read_safetensors_header
from ..codec.imageread import open_image
from ..codec.latentfile import ORIGIN
from ..codec.pixels import read_metadata
from ..core.errors import EightfoldError, OutputError

Origin = dict[str, str]  # "source" is the SHA-256 of the source's bytes; the rest is the autoencoder and the settings
KEEP = "--overwrite replaces it, --out names another place"


def hash_file(path: Path) -> str:
    """SHA-256 of its bytes; empty for what cannot be read, which whoever reads it says better."""
    with suppress(OSError, ValueError):
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    return ""


def read_stamp(path: Path) -> tuple[int, ...]:
    """What changes when somebody writes to a file."""
    with suppress(OSError, ValueError):
        facts = path.stat()
        return facts.st_ino, facts.st_size, facts.st_mtime_ns
    return ()


def read_latent_origin(path: Path) -> Origin:
    """That of a latent file, from its header alone; empty where it has none."""
    with suppress(EightfoldError):
        return to_origin(to_table(read_safetensors_header(path).metadata.get(ORIGIN, "")))
    return {}


def read_picture_origin(path: Path) -> Origin:
    """That of a picture, without decoding its pixels; empty where it has none."""
    with suppress(EightfoldError), open_image(path) as image:
        # the texts of a PNG as a whole are only known when its pixels are read; ours stand before them
        text = image.info.get("eightfold") if image.format == "PNG" else read_metadata(path).get("eightfold")
        return to_origin(to_table(text).get("origin")) if isinstance(text, str) else {}
    return {}


def to_table(text: str) -> dict[str, Any]:
    """Empty for anything else that somebody put there."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], table) if isinstance(table, dict) else {}


def to_origin(table: Any) -> Origin:
    """Texts by name, or nothing."""
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in cast(dict[str, Any], table).values()):
        return {}
    return cast(Origin, table)


def require_same(target: Path, source: Path, wanted: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise an OutputError unless `target`, which is there and says `found`, is what `wanted` would give again.

    Weights without a fingerprint are never known to be the same.
    """
    if not all(wanted.values()):
        raise OutputError(f"{target} exists already and was kept", hint=KEEP)
    if found.get("source") != wanted.get("source"):
        raise OutputError(f"{target} exists already, was made of something else than {source} holds now, and was kept", hint=KEEP)
    other = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
    if other:
        changes = ", ".join(f"{name} {show(found.get(name))} and not {show(wanted.get(name))}" for name in other)
        raise OutputError(f"{target} exists already, was made with {changes}, and was kept", hint=KEEP)


def show(value: str | None) -> str:
    """Short enough for a message, as fingerprints are elsewhere."""
    return "none" if value is None else value[:12]
