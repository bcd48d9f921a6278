"""ESRGAN's generator, which enlarges pictures (arXiv 1809.00219, sections 3.1 and figures 3 and 4), under the names of BasicSR's layout."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..specs.network import RRDBConfig

SHARE = 0.2  # of what a block adds to what went in ("residual scaling")
SLOPE = 0.2  # of the leaky rectifier


def convolve(channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, padding=1)


def bend(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what went in and what all before it made."""

    conv5: nn.Conv2d

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        for number in range(1, 6):
            grown = config.width + (number - 1) * config.growth
            setattr(self, f"conv{number}", convolve(grown, config.growth if number < 5 else config.width))

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for number in range(1, 5):
            seen = torch.cat([seen, bend(getattr(self, f"conv{number}")(seen))], dim=1)
        return x + SHARE * self.conv5(seen)


class Block(nn.Module):
    """Three dense blocks beside a shortcut."""

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(config) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return x + SHARE * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """A picture in [0, 1] to one `factor` times larger."""

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_first = convolve(3 * config.folding**2, config.width)
        self.body = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.conv_body = convolve(config.width, config.width)
        for number in range(1, config.doublings + 1):
            setattr(self, f"conv_up{number}", convolve(config.width, config.width))
        self.conv_hr = convolve(config.width, config.width)
        self.conv_last = convolve(config.width, 3)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Sides are whole squares of the folding."""
        x = first = self.conv_first(F.pixel_unshuffle(image, self.config.folding))
        for block in self.body:
            x = block(x)
        x = first + self.conv_body(x)
        for number in range(1, self.config.doublings + 1):
            x = bend(getattr(self, f"conv_up{number}")(F.interpolate(x, scale_factor=2.0, mode="nearest")))
        return self.conv_last(bend(self.conv_hr(x)))
