"""Causal convolutions over video, for one frame: what they do to the first picture is a convolution in the plane.

A causal convolution sees, besides its own frame, only frames before it. In front of the first frame stands padding: zeros, so that
only the kernel's last tap acts, or that frame again and again, so that all taps act on it and their sum does the same.
The functions here take weights as files hold them, with a frame axis, and give them without; weights without one pass unchanged.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .stages import State


def take_last_tap(weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Kernel [out, in, t, h, w] of a convolution padded with zeros in time, to [out, in, h, w]."""
    return weight[:, :, -1].contiguous() if weight.ndim == 5 else weight


def add_taps(weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Kernel [out, in, t, h, w] of a convolution padded with its first frame, to [out, in, h, w].

    The sum is taken and kept in float32: in a narrower type it would be rounded once more than the taps are.
    """
    if weight.ndim != 5:
        return weight
    return weight[:, :, 0].contiguous() if weight.shape[2] == 1 else weight.sum(dim=2, dtype=torch.float32)


def drop_single(tensor: Float[Tensor, "..."], axis: int) -> Float[Tensor, "..."]:
    """Without `axis` where that has one entry; unchanged where it has more, for the strict check at load to name."""
    return tensor.squeeze(axis)


class EdgeConvolution(nn.Module):
    """A 3x3 convolution that keeps height and width by repeating the edge; one level deeper in names, as in the files."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1, padding_mode="replicate")

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        return self.conv(x)
