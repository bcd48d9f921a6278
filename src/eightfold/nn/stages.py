"""The stages that convolutional networks are lists of: residual blocks, down, up, norms, and the skips of a U-Net.

A stage is called with the feature map and a `State`; a network's `forward` is a plain loop over its stages, and anything that runs a
network in another way (in strips, with other kernels) reads the same list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class State:
    """What the stages of one pass share besides the feature map: time embedding, text tokens and the U-Net's skips."""

    time: Float[Tensor, "b e"] | None = None
    tokens: Float[Tensor, "b n d"] | None = None
    skips: list[Tensor] = field(default_factory=list)


Stage = Callable[[Tensor, State], Tensor]


def run_stages(stages: Iterable[Stage], x: Tensor, state: State | None = None) -> Tensor:
    """The plain reference: every stage on the whole feature map, one after the other."""
    state = state or State()
    for stage in stages:
        x = stage(x, state)
    return x


class Convolution(nn.Conv2d):
    """A convolution that keeps height and width."""

    def __init__(self, channels: int, out_channels: int, kernel: int = 3) -> None:
        super().__init__(channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, input: Tensor, state: State | None = None) -> Tensor:
        return super().forward(input)


class NormSiLU(nn.GroupNorm):
    """Group normalisation followed by SiLU: what stands before a network's last convolution."""

    def __init__(self, groups: int, channels: int, eps: float) -> None:
        super().__init__(groups, channels, eps=eps)

    def forward(self, input: Tensor, state: State | None = None) -> Tensor:
        return F.silu(super().forward(input))


class ResidualBlock(nn.Module):
    """Two normalised convolutions beside a shortcut; with `embedding` channels, the time embedding is added between them."""

    def __init__(self, channels: int, out_channels: int, *, groups: int, eps: float, embedding: int | None = None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=eps)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time_emb_proj = None if embedding is None else nn.Linear(embedding, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = None if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, state: State) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None and state.time is not None:
            hidden = hidden + self.time_emb_proj(F.silu(state.time))[:, :, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Down(nn.Module):
    """Halves height and width with a strided 3x3 convolution.

    `symmetric` pads one pixel on every side (U-Net); otherwise zeros go to the right and the bottom only (autoencoder).
    """

    def __init__(self, channels: int, *, symmetric: bool) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1 if symmetric else 0)

    def forward(self, x: Tensor, state: State) -> Tensor:
        return self.conv(x if self.symmetric else F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Doubles height and width by repeating pixels, then a 3x3 convolution. In a U-Net the result has the size of the waiting skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, state: State) -> Tensor:
        height, width = state.skips[-1].shape[-2:] if state.skips else (2 * x.shape[-2], 2 * x.shape[-1])
        return self.conv(F.interpolate(x, size=(height, width), mode="nearest"))


def save_skip(x: Tensor, state: State) -> Tensor:
    """The stage that keeps the feature map for the other side of a U-Net."""
    state.skips.append(x)
    return x


def join_skip(x: Tensor, state: State) -> Tensor:
    """The stage that appends the channels of the skip kept last."""
    return torch.cat([x, state.skips.pop()], dim=1)


class Level(nn.Module):
    """One resolution of a network: residual blocks, the attentions behind them, and the way to the next resolution.

    The names are those of the diffusers layout, so that state dicts agree with it key by key.
    """

    def __init__(
        self,
        resnets: Iterable[ResidualBlock],
        attentions: Iterable[nn.Module] = (),
        *,
        down: Down | None = None,
        up: Up | None = None,
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        attentions = list(attentions)
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        if down is not None:
            self.downsamplers = nn.ModuleList([down])
        if up is not None:
            self.upsamplers = nn.ModuleList([up])

    def blocks(self) -> list[list[Stage]]:
        """Each residual block with the attention behind it, where there is one."""
        attentions = list(getattr(self, "attentions", ()))
        return [[resnet, *attentions[index : index + 1]] for index, resnet in enumerate(self.resnets)]  # type: ignore[list-item]

    def resizers(self) -> list[Stage]:
        """The way to the next resolution: one stage, or none at the last level."""
        return [*getattr(self, "downsamplers", ()), *getattr(self, "upsamplers", ())]


class Middle(nn.Module):
    """The lowest resolution: residual block, attention, residual block."""

    def __init__(self, first: ResidualBlock, attention: nn.Module | None, second: ResidualBlock) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([first, second])
        if attention is not None:
            self.attentions = nn.ModuleList([attention])

    def stages(self) -> list[Stage]:
        return [self.resnets[0], *getattr(self, "attentions", ()), self.resnets[1]]  # type: ignore[list-item]
