"""The tiny autoencoder TAESD, as lists of stages: a quick stand-in for the large ones (madebyollin/taesd, taesd.py).

It works on latents as a denoiser sees them, not on raw ones, and has no posterior: its answer is certain.
Stages are numbered as in the diffusers layout, where those without weights count too.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import CheckpointError
from ..nn.stages import Convolution, Stage, State
from ..specs.network import TinyConfig
from .posterior import Posterior
from .staged import StagedAutoencoder

BOUND = 3.0  # a latent is squeezed into this range before it is decoded


class Scale(nn.Module):
    """x * factor + shift: between the [-1, 1] of images here and the [0, 1] that the weights were trained for."""

    def __init__(self, factor: float, shift: float) -> None:
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        return x * self.factor + self.shift


class Squeeze(nn.Module):
    """Bounds values smoothly by +-BOUND."""

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        return torch.tanh(x / BOUND) * BOUND


class Rectify(nn.Module):
    """Everything below zero becomes zero."""

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        return F.relu(x)


class Halve(nn.Conv2d):
    """A strided 3x3 convolution without a bias."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, stride=2, padding=1, bias=False)

    def forward(self, input: Tensor, state: State | None = None) -> Tensor:
        return super().forward(input)


class Double(nn.Module):
    """Repeats every pixel in both directions."""

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Smooth(nn.Conv2d):
    """The 3x3 convolution without a bias behind a doubling."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1, bias=False)

    def forward(self, input: Tensor, state: State | None = None) -> Tensor:
        return super().forward(input)


class TinyBlock(nn.Module):
    """Three convolutions beside a shortcut, rectified together. The gaps in the numbering are the rectifications between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ModuleList([Convolution(width, width), Rectify(), Convolution(width, width), Rectify(), Convolution(width, width)])

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        hidden = x
        for layer in self.conv:
            hidden = layer(hidden)
        return F.relu(hidden + x)


class Layers(nn.Module):
    """Stages under numbers."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def stages(self) -> list[Stage]:
        return [*self.layers]


def build_blocks(width: int, count: int) -> list[nn.Module]:
    return [TinyBlock(width) for _ in range(count)]


def build_encoder(config: TinyConfig) -> Layers:
    layers: list[nn.Module] = [Convolution(3, config.width), *build_blocks(config.width, config.blocks[0])]
    for count in config.blocks[1:]:
        layers += [Halve(config.width), *build_blocks(config.width, count)]
    return Layers([*layers, Convolution(config.width, config.channels)])


def build_decoder(config: TinyConfig) -> Layers:
    layers: list[nn.Module] = [Convolution(config.channels, config.width), Rectify()]
    for count in reversed(config.blocks[1:]):
        layers += [*build_blocks(config.width, count), Double(), Smooth(config.width)]
    return Layers([*layers, *build_blocks(config.width, config.last), Convolution(config.width, 3)])


class TinyAutoencoder(StagedAutoencoder):
    """Image in [-1, 1] to a latent as a denoiser sees it, and back."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config) if "encoder" in config.halves else None
        self.decoder = build_decoder(config) if "decoder" in config.halves else None
        self.to_unit = Scale(0.5, 0.5)
        self.squeeze = Squeeze()
        self.from_unit = Scale(2.0, -1.0)

    def encoder_stages(self) -> list[Stage]:
        """Raises CheckpointError where there is a decoder alone."""
        self.refuse_without("encoder")
        return [self.to_unit, *super().encoder_stages()]

    def refuse_without(self, half: str) -> None:
        if half not in self.config.halves:
            raise CheckpointError(f"this small autoencoder has no {half}", hint="name a file with both halves, or the other half's")

    def decoder_stages(self) -> list[Stage]:
        """Raises CheckpointError where there is an encoder alone."""
        self.refuse_without("decoder")
        return [self.squeeze, *super().decoder_stages(), self.from_unit]

    def to_posterior(self, encoded: Float[Tensor, "b c h w"]) -> Posterior:
        """The standard deviation is 0. What this network calls raw is what a denoiser sees."""
        return Posterior(encoded, torch.zeros_like(encoded))
