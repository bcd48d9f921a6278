"""What a ControlNet is, as plain data (arXiv 2302.05543)."""

from __future__ import annotations

from dataclasses import dataclass

from .family import Family
from .keymap import Keymap
from .mark import Mark
from .network import UNetConfig


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """A copy of the way down and the middle of `unet`, and the stem that a picture goes through first.

    `stem` has the widths of the stem's levels; every level but the last halves the picture, so that it comes out in the size of a latent.
    """

    unet: UNetConfig
    hint_channels: int = 3
    stem: tuple[int, ...] = (16, 32, 96, 256)

    @property
    def downscale(self) -> int:
        return 2 ** (len(self.stem) - 1)


@dataclass(frozen=True, kw_only=True)
class KnownControl:
    """The ControlNets that were made for a family, and the tensors by which their files are known, in our layout."""

    family: Family
    marks: tuple[Mark, ...]
    keymap: Keymap
