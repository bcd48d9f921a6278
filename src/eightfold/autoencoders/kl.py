"""The convolutional autoencoder of latent diffusion, as a list of stages (arXiv 2112.10752, appendix)."""

from __future__ import annotations

from torch import Tensor, nn

from ..nn.attention import PixelAttention
from ..nn.stages import Convolution, Down, Level, Middle, NormSiLU, ResidualBlock, Stage, Up, run_stages
from ..specs.network import KLConfig
from .staged import StagedAutoencoder

EPS = 1e-6


def build_middle(config: KLConfig, width: int) -> Middle:
    attention = PixelAttention(width, groups=config.groups, eps=EPS) if config.middle_attention else None
    first, second = (ResidualBlock(width, width, groups=config.groups, eps=EPS) for _ in range(2))
    return Middle(first, attention, second)


def build_blocks(channels: int, width: int, count: int, groups: int) -> list[ResidualBlock]:
    return [ResidualBlock(channels if index == 0 else width, width, groups=groups, eps=EPS) for index in range(count)]


class Encoder(nn.Module):
    """Image to mean and log-variance: 2 * channels feature maps at 1 / downscale."""

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in config.multipliers]
        self.conv_in = Convolution(3, widths[0])
        levels: list[Level] = []
        for index, (before, width) in enumerate(zip([widths[0], *widths], widths, strict=False)):
            down = Down(width, symmetric=False) if index < len(widths) - 1 else None
            levels.append(Level(build_blocks(before, width, config.blocks, config.groups), down=down))
        self.down_blocks = nn.ModuleList(levels)
        self.mid_block = build_middle(config, widths[-1])
        self.conv_norm_out = NormSiLU(config.groups, widths[-1], EPS)
        self.conv_out = Convolution(widths[-1], 2 * config.channels)

    def stages(self) -> list[Stage]:
        levels = [stage for level in self.down_blocks for stage in level_stages(level)]
        return [self.conv_in, *levels, *self.mid_block.stages(), self.conv_norm_out, self.conv_out]

    def forward(self, image: Tensor) -> Tensor:
        return run_stages(self.stages(), image)


class Decoder(nn.Module):
    """Raw latent to image; one residual block more a level than the encoder."""

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in reversed(config.multipliers)]
        self.conv_in = Convolution(config.channels, widths[0])
        self.mid_block = build_middle(config, widths[0])
        levels: list[Level] = []
        for index, (before, width) in enumerate(zip([widths[0], *widths], widths, strict=False)):
            up = Up(width) if index < len(widths) - 1 else None
            levels.append(Level(build_blocks(before, width, config.blocks + 1, config.groups), up=up))
        self.up_blocks = nn.ModuleList(levels)
        self.conv_norm_out = NormSiLU(config.groups, widths[-1], EPS)
        self.conv_out = Convolution(widths[-1], 3)

    def stages(self) -> list[Stage]:
        levels = [stage for level in self.up_blocks for stage in level_stages(level)]
        return [self.conv_in, *self.mid_block.stages(), *levels, self.conv_norm_out, self.conv_out]

    def forward(self, raw: Tensor) -> Tensor:
        return run_stages(self.stages(), raw)


def level_stages(level: nn.Module) -> list[Stage]:
    assert isinstance(level, Level)
    return [*(stage for block in level.blocks() for stage in block), *level.resizers()]


class KLAutoencoder(StagedAutoencoder):
    """Encoder and decoder with the optional 1x1 convolutions ("quant convs") between them."""

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = Convolution(2 * config.channels, 2 * config.channels, 1) if config.quant_convs else None
        self.post_quant_conv = Convolution(config.channels, config.channels, 1) if config.quant_convs else None

    def encoder_stages(self) -> list[Stage]:
        return [*super().encoder_stages(), *([self.quant_conv] if self.quant_conv is not None else [])]

    def decoder_stages(self) -> list[Stage]:
        return [*([self.post_quant_conv] if self.post_quant_conv is not None else []), *super().decoder_stages()]
