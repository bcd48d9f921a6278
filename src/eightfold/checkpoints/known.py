"""Autoencoders that the user gave a name, kept in the user's cache folder: their fingerprints, spaces and sketches. No torch here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError
from ..core.files import write_atomically

FOLDER = "EIGHTFOLD_CACHE"  # the environment variable that names another folder
FILE = "known.json"


@dataclass(frozen=True, kw_only=True)
class Known:
    """One autoencoder. `parameters` is the count of its numbers, by which most files are told apart without reading them."""

    name: str
    space: str
    encoder: str
    decoder: str
    parameters: int
    sketch: Mapping[str, tuple[float, float]]


def to_folder() -> Path:
    """Where things are kept between runs: the folder that EIGHTFOLD_CACHE names, or the system's place for caches."""
    from platformdirs import user_cache_path

    named = os.environ.get(FOLDER)
    return Path(named) if named else user_cache_path("eightfold", appauthor=False)


def read_table(name: str) -> dict[str, Any]:
    """A table out of the folder; empty where there is none. Raises CheckpointError where it is damaged."""
    path = to_folder() / name
    if not path.exists():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise ValueError("no table")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", hint="remove it; what it kept has to be remembered again") from None
    return table


def write_table(name: str, table: Mapping[str, Any]) -> Path:
    path = to_folder() / name
    with write_atomically(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(table, sort_keys=True) + "\n", encoding="utf-8")
    return path


def read_known() -> list[Known]:
    """Everything that was remembered. Raises CheckpointError where the file is damaged."""
    try:
        return [Known(name=name, **entry) for name, entry in read_table(FILE).items()]
    except TypeError as error:
        raise CheckpointError(f"{to_folder() / FILE} is damaged: {error}", hint="remove it; names have to be remembered again") from None


def has_alike(parameters: int) -> bool:
    """Whether anything of as many numbers was remembered."""
    return any(entry.get("parameters") == parameters for entry in read_table(FILE).values())


def remember(known: Known) -> Path:
    """Keep it under its name; what had that name before is forgotten. Returns the file."""
    entry = asdict(known)
    return write_table(FILE, {**read_table(FILE), entry.pop("name"): entry})
