"""What a latent space is: one autoencoder geometry with its normalisation and its habits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .keymap import Keymap
from .mark import Mark
from .network import AutoencoderConfig

Reading = Literal["mode", "sample"]
Speech = Literal["raw", "latent"]
DType = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """latent = (packed - shift) * scale; each is one number for all channels or one a channel of the packed raw latent."""

    scale: tuple[float, ...]
    shift: tuple[float, ...] = (0.0,)

    @classmethod
    def from_moments(cls, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Normalisation:
        """latent = (packed - mean) / std."""
        return cls(scale=tuple(1 / one for one in std), shift=mean)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """latent = (packed - mean) / sqrt(variance + eps), where the weights bring mean and variance along, under these names."""

    mean: str
    variance: str
    eps: float


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How the raw latent becomes channels for the denoiser, before normalisation.

    Squares of `side` x `side` cells become channels, ordered by raw channel, row, column. The result stands `copies` times behind itself
    (for a denoiser of video, which is given one picture as several frames); of what comes back the last copy counts.
    """

    side: int = 1
    copies: int = 1

    @property
    def factor(self) -> int:
        """How many times more channels."""
        return self.side**2 * self.copies


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Another autoencoder for the same latent space.

    One that `speaks` "latent" takes and gives what a denoiser sees; all others know raw latents only. `keymap` leads from the other layout
    that such weights are published in.
    """

    name: str
    autoencoder: AutoencoderConfig
    marks: tuple[Mark, ...]
    speaks: Speech = "raw"
    dtypes: tuple[DType, ...] = ("float32", "bfloat16", "float16")
    keymap: Keymap | None = None


@dataclass(frozen=True, kw_only=True)
class Space:
    """`normalisation` holds unless the weights carry one of their own in their metadata. A space without `marks` has no weights.

    `start_reading` is how the family's own tools read the posterior of a picture that generation starts from; to encode and decode,
    the mode is nearer to the picture. `dtypes` are those in which the autoencoder does not overflow, widest first; `keymap` leads
    from the other layout that the weights are published in.
    `channels` and `downscale` are those of the raw latent, `latent_channels` and `latent_downscale` of what the denoiser sees.
    """

    name: str
    autoencoder: AutoencoderConfig
    normalisation: Normalisation | Statistics
    packing: Packing = Packing()
    start_reading: Reading = "mode"
    dtypes: tuple[DType, ...] = ("float32", "bfloat16", "float16")
    marks: tuple[Mark, ...] = ()
    keymap: Keymap | None = None
    variants: tuple[Variant, ...] = ()

    @property
    def channels(self) -> int:
        return self.autoencoder.channels

    @property
    def downscale(self) -> int:
        return self.autoencoder.downscale

    @property
    def latent_channels(self) -> int:
        return self.channels * self.packing.factor

    @property
    def latent_downscale(self) -> int:
        """Sides of pictures are padded to a multiple of it."""
        return self.downscale * self.packing.side
