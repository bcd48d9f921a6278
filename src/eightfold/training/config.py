"""What a training run is made of, as plain data; read from TOML by `core.config`."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import ConfigError
from ..data.pictures import PictureConfig


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast.

    The learning rate rises over `warmup` steps, holds until the share `hold` of all steps, and falls as a cosine to `final` of it.
    """

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    hold: float = 0.3
    final: float = 0.02
    weight_decay: float = 0.01
    optimiser: str = "adamw"  # or muon, see training.optimisers
    average: float = 0.995  # decay of the moving average of the weights
    clip: float = 1.0  # largest norm of the gradient
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected 1 or more", hint="see the files in configs/")
        if self.optimiser not in ("adamw", "muon"):
            raise ConfigError(f"optimiser is {self.optimiser!r}, expected adamw or muon", hint='optimiser = "adamw"')
        for name in ("hold", "final", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a share from 0 to 1", hint="see the files in configs/")


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """A KL autoencoder of `space`, trained on crops of rendered pictures.

    Loss: L1 + squared * squared error + gradient * multi-scale gradient error + kl * KL divergence.
    With `kl = 0` it is a plain autoencoder: the decoder is given the posterior's mode, no noise is drawn into it.
    `crops` are the sides that successive steps use in turn, each at about the same number of pixels a batch.
    """

    space: str
    pictures: PictureConfig
    schedule: Schedule
    crops: tuple[int, ...] = (64,)
    squared: float = 0.0
    gradient: float = 0.2
    kl: float = 1e-3

    def __post_init__(self) -> None:
        if not self.crops or not all(0 < crop <= self.pictures.size for crop in self.crops):
            what = f"crops are {list(self.crops)}, expected one or more sides of at most {self.pictures.size}, the pictures' size"
            raise ConfigError(what, hint="crops = [64]")
        if not self.kl >= 0:
            raise ConfigError(f"kl is {self.kl}, expected 0 (a plain autoencoder) or more", hint="kl = 1e-3")


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """The denoiser and text encoder of `family`, trained on the latents that the file `autoencoder` gives of rendered scenes."""

    family: str
    autoencoder: str
    pictures: PictureConfig
    schedule: Schedule
    caption_dropout: float = 0.1
