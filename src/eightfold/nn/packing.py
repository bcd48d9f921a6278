"""Down and up by packing 2x2 pixels into channels, beside a shortcut without weights (DC-AE, arXiv 2410.10733, section 3.2).

Where a shortcut has more channels than the result, neighbours are averaged; where it has fewer, each is repeated.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from .channelnorm import BuildConvolution
from .stages import Convolution, State


def pack(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c4 h2 w2"]:
    """Space to depth; in the new channels the row counts most, then the column, then the old channel."""
    return rearrange(x, "b c (h r) (w s) -> b (r s c) h w", r=2, s=2)


def unpack(x: Float[Tensor, "b c4 h2 w2"]) -> Float[Tensor, "b c h w"]:
    """The inverse of `pack`."""
    return rearrange(x, "b (r s c) h w -> b c (h r) (w s)", r=2, s=2)


def average_channels(x: Float[Tensor, "b many h w"], channels: int) -> Float[Tensor, "b few h w"]:
    """Down to `channels`, each the mean of as many neighbours."""
    return reduce(x, "b (c n) h w -> b c h w", "mean", c=channels)


def repeat_channels(x: Float[Tensor, "b few h w"], channels: int) -> Float[Tensor, "b many h w"]:
    """Up to `channels`, each repeated in place."""
    return repeat(x, "b c h w -> b (c n) h w", n=channels // x.shape[1])


def add_averaged(x: Float[Tensor, "b few h w"], state: State) -> Float[Tensor, "b few h w"]:
    """The stage that adds the feature map kept last, its channels averaged down to those of `x`."""
    return x + average_channels(state.skips.pop(), x.shape[1])


def add_repeated(x: Float[Tensor, "b many h w"], state: State) -> Float[Tensor, "b many h w"]:
    """The stage that adds the feature map kept last, its channels repeated up to those of `x`."""
    return x + repeat_channels(state.skips.pop(), x.shape[1])


class PackDown(nn.Module):
    """Halves height and width: a convolution to a quarter of the channels, packed.

    With `copies`, the convolution makes so many times fewer and the packed result is repeated as a whole.
    """

    def __init__(self, channels: int, out_channels: int, convolution: BuildConvolution = Convolution, *, copies: int = 1) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.copies = copies
        self.conv = convolution(channels, out_channels // (4 * copies))

    def forward(self, x: Tensor, state: State) -> Tensor:
        packed = pack(self.conv(x))
        return torch.cat([packed] * self.copies, dim=1) + average_channels(pack(x), self.out_channels)


class PackUp(nn.Module):
    """Doubles height and width: a convolution to four times the channels, unpacked."""

    def __init__(self, channels: int, out_channels: int, convolution: BuildConvolution = Convolution) -> None:
        super().__init__()
        self.conv = convolution(channels, 4 * out_channels)

    def forward(self, x: Tensor, state: State) -> Tensor:
        wide = self.conv(x)
        return unpack(wide + repeat_channels(x, wide.shape[1]))
