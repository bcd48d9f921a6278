"""Options that several verbs share."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ..core.errors import OutputError, RequestError
from ..core.files import refuse_existing

Reading = Literal["mode", "sample"]
Flag = Annotated[bool, Parameter(negative="", show_default=False)]
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
ANIMATIONS = (".gif", ".webp")
LATENTS = (".safetensors",)
OTHER_FILES = (".bmp", ".tif", ".tiff", ".avif", ".mp4", ".latent", ".pt", ".ckpt", ".npy", ".json", ".txt")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which model, where.

    Parameters
    ----------
    model
        A model's name (pocket) or file.
    vae
        An autoencoder file in place of the model's own; it must be of the same latent space.
    device
        auto, cpu, cuda, cuda:1, mps.
    dtype
        auto, float32, bfloat16 or float16.
    """

    model: str = "pocket"
    vae: Path | None = None
    device: str = "auto"
    dtype: str = "auto"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """Where results go.

    Parameters
    ----------
    out
        A folder, or for a single result a file. By default the current folder.
    overwrite
        Replace files that are there already; otherwise they are kept and the command stops before it works.
    json
        Print the result as JSON.
    """

    out: Path = Path()
    overwrite: Flag = False
    json: Flag = False

    def to_paths(self, names: Sequence[str], suffixes: tuple[str, ...] = PICTURES) -> list[Path]:
        """Where each result goes: `out` itself if it is named like a file, else a file in it.

        Refuses what cannot be written, before any work.
        """
        suffix = self.out.suffix.lower()
        if suffix in suffixes and not self.out.is_dir():
            if len(names) != 1:
                raise RequestError(f"--out {self.out} is one file, and there are {len(names)} results", hint="give --out a folder")
            paths = [self.out]
        elif suffix in {*PICTURES, *ANIMATIONS, *LATENTS, *OTHER_FILES} and not self.out.is_dir():
            hint = f"name it {' or '.join(suffixes)}, or name a folder"
            raise OutputError(f"--out {self.out}: the result is no {suffix} file", hint=hint)
        else:
            paths = [self.out / name for name in names]
        if len(set(paths)) < len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise RequestError(f"two results would be called {twice}", hint="run them one at a time, with another --out")
        for path in paths:
            refuse_existing(path, overwrite=self.overwrite)
            refuse_folder(path)
        return paths


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Posterior:
    """How the encoder's answer is read.

    Parameters
    ----------
    sample
        Draw from the posterior, by --seed.
    mode
        Take the posterior's mode. Without either, what is usual for the latent space.
    seed
        For --sample.
    """

    sample: Flag = False
    mode: Flag = False
    seed: int = 0

    def to_reading(self) -> Reading | None:
        from ..pipelines.request import check_seed

        check_seed(self.seed)
        if self.sample and self.mode:
            raise RequestError("--sample and --mode exclude each other", hint="leave one out")
        return "sample" if self.sample else "mode" if self.mode else None


def refuse_folder(path: Path) -> None:
    """Raise an OutputError if no file can be made at `path`: something on the way to it is no folder, or may not be written to."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="--out names another place")
    nearest = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not nearest.is_dir():
        raise OutputError(f"cannot write {path}: {nearest} is not a folder", hint="--out names another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no right to write in {nearest}", hint="--out names another place")


def to_slug(text: str, longest: int = 60) -> str:
    """A file name that says what is in it: lower-case words joined by hyphens."""
    words = re.findall(r"[^\W_]+", text.lower())
    return "-".join(words)[:longest].strip("-") or "picture"


def to_slugs(texts: Sequence[str]) -> list[str]:
    """A name for each text; the second of the same name ends in 2."""
    names: list[str] = []
    for text in texts:
        name = plain = to_slug(text)
        number = 2
        while name in names:
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names
