"""What a latent space is: one autoencoder geometry with its normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .mark import Mark
from .network import KLConfig

Reading = Literal["mode", "sample"]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """latent = (raw - shift) * scale; each is one number for all channels or one a channel."""

    scale: tuple[float, ...]
    shift: tuple[float, ...] = (0.0,)


@dataclass(frozen=True, kw_only=True)
class Space:
    """`normalisation` holds unless the weights carry one of their own in their metadata.

    `reading` is how a posterior is read when nobody says otherwise. `channels` is that of the raw latent.
    """

    name: str
    autoencoder: KLConfig
    normalisation: Normalisation
    reading: Reading = "mode"
    marks: tuple[Mark, ...] = ()

    @property
    def channels(self) -> int:
        return self.autoencoder.channels

    @property
    def downscale(self) -> int:
        return self.autoencoder.downscale
