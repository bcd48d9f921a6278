"""Options that several verbs share."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token

from ..core.errors import OutputError, RequestError
from ..core.files import refuse_existing
from ..specs.space import Reading

if TYPE_CHECKING:
    from ..codec.codec import Codec
    from ..core.device import Placement
    from ..pipelines.bundle import Model
    from ..pipelines.extras import Extras


def to_whole(_: object, tokens: Sequence[Token]) -> int:
    """The parser of the command line would round 2.5 to 2 without a word."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


Whole = Annotated[int, Parameter(converter=to_whole)]
WholeOrNone = Annotated[int | None, Parameter(converter=to_whole)]
Flag = Annotated[bool, Parameter(negative="", show_default=False)]
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
ANIMATIONS = (".gif", ".webp")
LATENTS = (".safetensors", ".latent")
OTHER = (".bmp", ".tif", ".tiff", ".avif", ".mp4", ".pt", ".ckpt", ".npy", ".json", ".txt")
KNOWN = {*PICTURES, *ANIMATIONS, *LATENTS, *OTHER}  # a name with another ending is a folder's


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which model, where.

    Parameters
    ----------
    model
        A model's name (pocket), file or folder, or its name on a hub: OWNER/NAME or OWNER/NAME/FILE.
    vae
        An autoencoder file in place of the model's own, or pixels for none; with a model, of the same latent space.
    device
        auto, cpu, cuda, cuda:1, mps.
    dtype
        auto, float32, bfloat16 or float16.
    memory
        How much the process may take to encode and decode, such as 4GB: larger pictures are done in strips, or by way of temporary files,
        with the same result. By default 80 % of what is free.
    offline
        Use what is on this disk, and fetch nothing.
    """

    model: str = "pocket"
    vae: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    memory: str | None = None
    offline: Flag = False

    def load(self, extras: Extras | None = None) -> Model:
        """The whole model, with what it is given beside its own file."""
        from ..pipelines.bundle import NOTHING, load

        return load(self.model, vae=self.vae, extras=extras or NOTHING, **self.to_where())

    def load_autoencoder(self, space: str | None) -> Codec:
        """The other autoencoder, or the model's own."""
        from ..pipelines.bundle import load_autoencoder

        return load_autoencoder(self.vae or self.model, space=space, **self.to_where())

    def to_where(self) -> dict[str, Any]:
        return {"device": self.device, "dtype": self.dtype, "memory": self.memory, "offline": self.offline}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Effort:
    """How far to go.

    Parameters
    ----------
    explain
        Print the plan for each size of picture, with its memory and time, and do nothing.
    fast
        Approximate: cut large pictures into tiles that know nothing of each other. Less exact, and recorded in what is written.
    yes
        Do not ask before a run that --memory makes more than five times slower.
    """

    explain: Flag = False
    fast: Flag = False
    yes: Flag = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Naming:
    """Which of several latent spaces an autoencoder is of.

    Parameters
    ----------
    space
        The autoencoder's latent space, where its weights fit several: sd or sdxl, sd3 or flux1.
    """

    space: str | None = None


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
        is_file = suffix in KNOWN and not is_folder(self.out)
        if is_file and suffix in suffixes:
            if len(names) != 1:
                raise RequestError(f"--out {self.out} is one file, and there are {len(names)} results", hint="give --out a folder")
            paths = [self.out]
        elif is_file:
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

    def to_folder(self) -> Path:
        """`out` as the folder of as many results as there will be. Refuses what cannot be one, before any work."""
        if self.out.suffix.lower() in KNOWN and not is_folder(self.out):
            raise RequestError(f"--out {self.out} is one file, and a folder is given", hint="give --out a folder")
        refuse_unwritable(self.out / "result")
        return self.out


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Posterior:
    """How the encoder's answer is read.

    Parameters
    ----------
    sample
        Draw from the posterior, by --seed.
    mode
        Take the posterior's mode, which is nearer to the picture; so without either.
    seed
        For --sample.
    """

    sample: Flag = False
    mode: Flag = False
    seed: Whole = 0

    def to_reading(self) -> Reading | None:
        from ..pipelines.request import check_seed

        check_seed(self.seed)
        if self.sample and self.mode:
            raise RequestError("--sample and --mode exclude each other", hint="leave one out")
        return "sample" if self.sample else "mode" if self.mode else None


def refuse_folder(path: Path) -> None:
    """Raise an OutputError if no file can be made at `path`: something on the way to it is no folder, or may not be written to."""
    if is_folder(path):
        raise OutputError(f"{path} is a folder", hint="--out names another place")
    refuse_unwritable(path)


def refuse_unwritable(path: Path) -> None:
    """The same where a folder at `path` itself is no hindrance."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # a name too long, above all
        raise OutputError(f"cannot write {path}: {error.strerror}", hint="--out names another place") from None
    nearest = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not nearest.is_dir():
        raise OutputError(f"cannot write {path}: {nearest} is not a folder", hint="--out names another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no right to write in {nearest}", hint="--out names another place")


def is_folder(path: Path) -> bool:
    """Unlike Path.is_dir, no error for a name that cannot be one."""
    return os.path.isdir(path)  # noqa: PTH112


def to_placement(placed: Codec | Placement) -> dict[str, Any]:
    """Where it ran and in which numbers, and why, for JSON."""
    from ..core.device import name_dtype

    return {"device": str(placed.device), "dtype": name_dtype(placed.dtype), "placement": placed.reason}


def to_text(notes: Sequence[str]) -> str:
    """Behind a result: what was done otherwise than asked, each once."""
    return f" ({'; '.join(dict.fromkeys(notes))})" if notes else ""


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
