"""Pictures made larger by a network of the user's, in tiles where memory asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import isqrt
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..checkpoints.enlargers import read_enlarger, read_enlarger_config
from ..checkpoints.filehash import hash_file
from ..codec.engine import RESERVE, SHARE
from ..codec.padding import pad_to_multiple
from ..codec.pixels import Picture
from ..core.device import choose_placement
from ..core.errors import EightfoldError, RequestError
from ..core.memory import measure_free, measure_resident, read_amount, to_amount
from ..core.progress import Progress
from ..nn.rrdb import RRDBNet
from ..specs.network import RRDBConfig
from .request import LARGEST
from .start import resize

Report = Callable[[Progress], None]
MARGIN = 32  # pixels around a tile that are shown and thrown away: what lies further off changes hardly anything
SMALLEST = 4 * MARGIN


@dataclass(frozen=True, kw_only=True, eq=False)
class Enlarged:
    """The larger image in [-1, 1], and what was done otherwise than for the picture as a whole."""

    image: Float[Tensor, "1 3 h w"]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Enlarger:
    """A network that makes pictures `factor` times larger. `memory` bounds what the process may take, in bytes; without it a share of what
    is free is taken. `reason` says why it runs where it does.
    """

    network: RRDBNet
    source: str
    memory: int | None = None
    reason: str = ""

    @property
    def factor(self) -> int:
        return int(self.network.config.factor)

    @cached_property
    def sha256(self) -> str:
        """Of the file."""
        return hash_file(self.source)

    @torch.no_grad()
    def enlarge(self, image: Float[Tensor, "1 3 h w"], report: Report | None = None) -> Enlarged:
        """The image, in [-1, 1], as many times larger; larger than the memory allows at once, in tiles that see some of their neighbours.

        Raises RequestError for one that would be too large, or where the memory is too small for a tile.
        """
        height, width = image.shape[-2:]
        if max(height, width) * self.factor > LARGEST:
            what = f"{width}x{height} made {self.factor} times larger: each side can be at most {LARGEST} pixels"
            raise RequestError(what, hint="begin with a smaller picture")
        folding = self.network.config.folding
        padded, _ = pad_to_multiple(image, folding)
        tile = self.choose_tile(padded.shape[-2], padded.shape[-1])
        large = self.run_tiles(padded, tile, report)
        large = large[..., : height * self.factor, : width * self.factor].clamp(-1, 1)
        if not bool(torch.isfinite(large).all()):
            raise EightfoldError(f"{self.source} gave values that are not finite", hint="--dtype float32 has the widest range")
        whole = tile >= max(padded.shape[-2:])
        return Enlarged(image=large, notes=() if whole else (f"enlarged in tiles of {tile} pixels",))

    def run_tiles(self, image: Float[Tensor, "1 3 h w"], tile: int, report: Report | None) -> Float[Tensor, "1 3 h2 w2"]:
        """Squares of `tile` pixels, of which the margins are shown to the network and thrown away; whole where it fits into one."""
        height, width = image.shape[-2:]
        if tile >= max(height, width):
            return self.run(image)
        factor, folding = self.factor, self.network.config.folding
        margin = -(-MARGIN // folding) * folding
        core = tile - 2 * margin
        large = image.new_empty(1, 3, height * factor, width * factor)
        places = [(y, x) for y in range(0, height, core) for x in range(0, width, core)]
        for number, (y, x) in enumerate(places, 1):
            top, left, bottom, right = max(0, y - margin), max(0, x - margin), min(height, y + core), min(width, x + core)
            part = self.run(image[..., top : min(height, bottom + margin), left : min(width, right + margin)])
            inner = part[..., (y - top) * factor : (bottom - top) * factor, (x - left) * factor : (right - left) * factor]
            large[..., y * factor : bottom * factor, x * factor : right * factor] = inner
            if report is not None:
                report(Progress(task="enlarge", number=number, total=len(places)))
        return large

    def run(self, part: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h2 w2"]:
        own = next(self.network.parameters())
        return self.network((part.to(own) + 1) / 2).float().cpu() * 2 - 1

    def choose_tile(self, height: int, width: int) -> int:
        """The side of the largest square tiles that fit into memory; that of the whole picture where it does."""
        free = measure_free()
        room = None if free is None else int(free * SHARE)
        if self.memory is not None:
            room = self.memory - measure_resident() - RESERVE - 4 * 3 * height * width * (1 + 2 * self.factor**2)
        side = max(height, width)
        if room is None or height * width * self.count_bytes() <= room:
            return side
        folding = self.network.config.folding
        tile = isqrt(max(0, room) // self.count_bytes()) // folding * folding
        if tile < SMALLEST:
            need = SMALLEST**2 * self.count_bytes()
            what = f"enlarging takes {to_amount(need)} beside the picture and what is loaded, for a tile of {SMALLEST} pixels"
            raise RequestError(what, hint="a larger --memory")
        return min(tile, side)

    def count_bytes(self) -> int:
        """A pixel of a tile: a dense block keeps what its convolutions made, twice while it grows; the last layers are the largest."""
        config = self.network.config
        dense = 2 * (config.width + 4 * config.growth) + 3 * config.width
        large = 4 * config.width * 4**config.doublings  # in, out, rectified, and a copy in torch's own order
        return 4 * max(dense, large) // config.folding**2 + 4 * 6 * self.factor**2


def check_enlarger(path: str | Path) -> None:
    """Raise as `load_enlarger` does, from the file's header alone."""
    refuse_factor(read_enlarger_config(path), path)


def refuse_factor(config: RRDBConfig, path: str | Path) -> None:
    if config.factor < 1 or config.factor % 1:
        what = f"{path} makes pictures {config.factor:g} times larger"
        raise RequestError(what, hint="name a network that makes them 1, 2, 4 or 8 times larger")


def load_enlarger(path: str | Path, *, device: str = "auto", dtype: str = "auto", memory: str | None = None) -> Enlarger:
    """The network in a file. Raises CheckpointError, RequestError for an amount of memory that is none or a network that makes smaller."""
    placement = choose_placement(device, dtype)
    network = read_enlarger(path, placement)
    refuse_factor(network.config, path)
    bound = None if memory is None else read_amount(memory)
    return Enlarger(network=network, source=str(path), memory=bound, reason=placement.reason)


def enlarge_picture(enlarger: Enlarger, picture: Picture, report: Report | None = None) -> Picture:
    """With its alpha; its metadata stay with the smaller one."""
    made = enlarger.enlarge(picture.image, report)
    height, width = made.image.shape[-2:]
    alpha = None if picture.alpha is None else resize(picture.alpha, width, height).clamp(0, 1)
    return replace(picture, image=made.image, alpha=alpha, notes=(*picture.notes, *made.notes), metadata={})
