"""What a batch has to do: which file is made of which, from the names of files and folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import EightfoldError, ImageError, LatentError, OutputError
from .gather import is_picture, list_endings, walk_folder

LATENT = ".latent.safetensors"
ENDINGS = (LATENT, ".latent")


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """`target` is to be made of `source`; with an `error` it cannot be, and that is reported in its turn."""

    source: Path
    target: Path
    error: EightfoldError | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """A kind of source: whether a file in a folder is one, by its name, what its result is called, and the error for a folder without."""

    fits: Callable[[str], bool]
    to_name: Callable[[str], str]
    error: type[EightfoldError]
    missing: str
    hint: str


def to_latent_name(name: str) -> str:
    """Of the latent file of a picture."""
    return f"{Path(name).stem}{LATENT}"


def to_picture_name(name: str) -> str:
    """Of the picture of a latent file."""
    return name.removesuffix(LATENT).removesuffix(".safetensors").removesuffix(".latent") + ".png"


def is_latent(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def build_kinds() -> tuple[Kind, Kind]:
    """Pictures, whose results are latents, and latents, whose results are pictures."""
    endings = list_endings()
    pictures = Kind(
        fits=lambda name: is_picture(name, endings),
        to_name=to_latent_name,
        error=ImageError,
        missing="no picture in it or in the folders in it",
        hint="name picture files, or a folder that has some",
    )
    latents = Kind(
        fits=is_latent,
        to_name=to_picture_name,
        error=LatentError,
        missing="no latent file in it or in the folders in it",
        hint=f"their names end in {' or '.join(ENDINGS)}; others are decoded by naming them",
    )
    return pictures, latents


def list_jobs(paths: Sequence[Path], out: Path, kind: Kind) -> list[Job]:
    """A job for every file, in the order of `paths`; a folder stands for all that fits in it and in the folders in it.

    Results are named after their sources, below `out` as the sources are below the named folder. A source that is named twice counts
    once, and of two sources with one result the second is a job with an error, as is a folder in a folder that cannot be read. Raises
    ImageError or LatentError for a named folder in which there is nothing.
    """
    jobs: dict[Path, Job] = {}
    lost: list[Job] = []
    for path in paths:
        for source, below, error in list_sources(path, kind):
            target = out / below.parent / kind.to_name(below.name)
            other = jobs.get(target)
            if error is not None:
                lost.append(Job(source=source, target=target, error=error))
            elif other is None:
                jobs[target] = Job(source=source, target=target)
            elif other.source.absolute() != source.absolute():
                what = f"{source}: its result would be {target}, as that of {other.source} is"
                lost.append(
                    Job(source=source, target=target, error=OutputError(what, hint="rename one, or do it alone with another --out"))
                )
    return [*jobs.values(), *lost]


def list_sources(path: Path, kind: Kind) -> Iterator[tuple[Path, Path, EightfoldError | None]]:
    """The sources that a path stands for, the place of each below the folder, and why it cannot be read where it cannot."""
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a name is too long
        yield path, Path(path.name), None
        return
    found = list(walk_folder(path, kind.fits))
    for one in found:
        if isinstance(one, Path):
            yield one, one.relative_to(path), None
            continue
        folder = Path(str(one.filename))
        error = kind.error(f"cannot read {folder}: {one.strerror}", hint="check your rights on that folder")
        if folder == path:
            raise error
        yield folder, folder.relative_to(path), error
    if not found:
        raise kind.error(f"{path} has {kind.missing}", hint=kind.hint)
