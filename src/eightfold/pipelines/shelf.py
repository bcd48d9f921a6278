"""What weights a folder holds, and which of them go together. No torch here: only headers are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..checkpoints.identity import Identity, identify_file
from ..checkpoints.match import compare
from ..core.errors import EightfoldError, RequestError
from ..families.catalog import FAMILIES
from .gather import walk_folder

ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
INDEX = "model_index.json"  # what a whole model's folder in diffusers' layout has
DRAWS = {family.name for family in FAMILIES}


@dataclass(frozen=True, kw_only=True)
class Item:
    """A weight file, or a folder in diffusers' layout. `fits` are the other items with an autoencoder for its denoiser, its own left out;
    `problem` is why it could not be read.
    """

    path: Path
    bytes: int
    components: tuple[Identity, ...] = ()
    problem: str = ""
    fits: tuple[Path, ...] = field(default=())

    def find(self, component: str) -> Identity | None:
        return next((one for one in self.components if one.component == component), None)

    @property
    def lacks(self) -> tuple[str, ...]:
        """Of a denoiser: what else a picture needs and this file has not."""
        if self.find("denoiser") is None:
            return ()
        has = {one.component.partition(".")[0] for one in self.components}
        return tuple(name for part, name in (("text", "text encoder"), ("autoencoder", "autoencoder")) if part not in has)

    @property
    def draws(self) -> bool:
        """Whether its family can draw here."""
        found = self.find("denoiser")
        return found is not None and found.family in DRAWS


def list_items(folder: Path) -> Iterator[Item]:
    """Every weight file below a folder, and every whole model's folder as one. Raises RequestError where it is none."""
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder", hint="`eightfold identify FILE` tells what one file is")
    wholes = sorted(path.parent for path in walk_folder(folder, lambda name: name == INDEX) if isinstance(path, Path))
    yield from (read_item(path) for path in wholes)
    for path in walk_folder(folder, lambda name: name.lower().endswith(ENDINGS)):
        if isinstance(path, OSError):
            yield Item(path=Path(path.filename or folder), bytes=0, problem=path.strerror or "cannot be read")
        elif not any(whole in path.parents for whole in wholes):
            yield read_item(path)


def read_item(path: Path) -> Item:
    size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file()) if path.is_dir() else path.stat().st_size
    try:
        return Item(path=path, bytes=size, components=identify_file(path))
    except EightfoldError as error:
        return Item(path=path, bytes=size, problem=str(error))


def find_partners(items: list[Item]) -> list[Item]:
    """The same items, each denoiser with the autoencoders of others that are of its space, or may be."""
    return [
        Item(path=item.path, bytes=item.bytes, components=item.components, problem=item.problem, fits=tuple(list_partners(item, items)))
        for item in items
    ]


def list_partners(item: Item, items: list[Item]) -> Iterator[Path]:
    denoiser = item.find("denoiser")
    for other in items if denoiser is not None else ():
        autoencoder = other.find("autoencoder")
        if other is not item and autoencoder is not None and denoiser is not None and compare(denoiser, autoencoder)[0] != "refused":
            yield other.path
