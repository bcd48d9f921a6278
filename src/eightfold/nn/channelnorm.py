"""Blocks normalised over their channels at every pixel, and the runs they stand in.

Networks made for video normalise each pixel by itself: statistics over a group of channels would mix frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .stages import Convolution, Stage, State

SMALLEST = 1e-12  # a pixel of length 0 stays 0
BuildConvolution = Callable[[int, int], nn.Module]


class ChannelNorm(nn.Module):
    """Scales the channels of every pixel to a root mean square of 1, then each by its own factor (arXiv 1910.07467).

    The length is summed in float32 whatever the type of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
        return (x * (x.shape[1] ** 0.5 / length.clamp_min(SMALLEST))).to(x.dtype) * self.gamma


class ChannelNormSiLU(ChannelNorm):
    """Channel normalisation followed by SiLU: what stands before a network's last convolution."""

    def forward(self, x: Float[Tensor, "b c h w"], state: State | None = None) -> Float[Tensor, "b c h w"]:
        return F.silu(super().forward(x))


class ChannelBlock(nn.Module):
    """Two normalised convolutions beside a shortcut; `convolution` builds one that keeps height and width."""

    def __init__(self, channels: int, out_channels: int, convolution: BuildConvolution = Convolution) -> None:
        super().__init__()
        self.norm1 = ChannelNormSiLU(channels)
        self.conv1 = convolution(channels, out_channels)
        self.norm2 = ChannelNormSiLU(out_channels)
        self.conv2 = convolution(out_channels, out_channels)
        self.conv_shortcut = None if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, state: State) -> Tensor:
        hidden = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Section(nn.Module):
    """A run of stages at one resolution: blocks, an attention behind each of the first, and the way to the next resolution.

    The names are those of the diffusers layout.
    """

    def __init__(
        self,
        resnets: Iterable[nn.Module],
        attentions: Iterable[nn.Module] = (),
        *,
        down: nn.Module | None = None,
        up: nn.Module | None = None,
    ) -> None:
        super().__init__()
        parts = {"resnets": [*resnets], "attentions": [*attentions]}
        parts |= {"downsamplers": [down] if down is not None else [], "upsamplers": [up] if up is not None else []}
        for name, modules in parts.items():
            if modules:
                self.add_module(name, nn.ModuleList(modules))

    def stages(self) -> list[Stage]:
        attentions = list(getattr(self, "attentions", ()))
        found: list[Stage] = []
        for index, resnet in enumerate(self.resnets):  # type: ignore[arg-type]
            found += [resnet, *attentions[index : index + 1]]
        return [*found, *getattr(self, "downsamplers", ()), *getattr(self, "upsamplers", ())]
