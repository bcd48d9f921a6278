"""Options that several verbs share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ..core.errors import RequestError
from ..core.files import refuse_existing

Reading = Literal["mode", "sample"]
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


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
    overwrite: Annotated[bool, Parameter(negative="")] = False
    json: Annotated[bool, Parameter(negative="")] = False

    def to_paths(self, names: list[str], suffixes: tuple[str, ...] = PICTURES) -> list[Path]:
        """Where each result goes: `out` itself if it is named like a file, else a file in it. Refuses what exists, before any work."""
        if self.out.suffix.lower() in suffixes or str(self.out).endswith(".safetensors"):
            if len(names) != 1:
                raise RequestError(f"--out {self.out} is one file, and there are {len(names)} results", hint="give --out a folder")
            paths = [self.out]
        else:
            paths = [self.out / name for name in names]
        if len(set(paths)) < len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise RequestError(f"two results would be called {twice}", hint="run them one at a time, with another --out")
        for path in paths:
            refuse_existing(path, overwrite=self.overwrite)
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

    sample: Annotated[bool, Parameter(negative="")] = False
    mode: Annotated[bool, Parameter(negative="")] = False
    seed: int = 0

    @property
    def reading(self) -> Reading | None:
        if self.sample and self.mode:
            raise RequestError("--sample and --mode exclude each other", hint="leave one out")
        return "sample" if self.sample else "mode" if self.mode else None


def to_slug(text: str, longest: int = 60) -> str:
    """A file name that says what is in it: lower-case words joined by hyphens."""
    words = re.findall(r"[^\W_]+", text.lower())
    return "-".join(words)[:longest].strip("-") or "picture"
