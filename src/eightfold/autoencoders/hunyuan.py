"""The autoencoder of HunyuanImage 2.1, as a list of stages: 64 channels at 1/32, resolutions joined as in DC-AE (arXiv 2410.10733).

Where the channels of two neighbouring stages differ, the map without weights beside the convolution averages or repeats channels:
on every way down and up, from the last level to the latent, and from the latent to the first level of the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..nn.frames import drop_single
from ..nn.mapattention import MapAttention
from ..nn.packing import PackDown, PackUp, add_averaged, add_repeated
from ..nn.stages import Convolution, Middle, NormSiLU, ResidualBlock, Stage, save_skip
from ..specs.network import HunyuanConfig
from .kl import EPS
from .staged import StagedAutoencoder


def fold_hunyuan(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the diffusers layout to those of HunyuanAutoencoder: kernels that some files give a frame axis of one entry lose it."""
    return {name: drop_single(tensor, 2) if tensor.ndim == 5 else tensor for name, tensor in tensors.items()}


def build_block(width: int, config: HunyuanConfig) -> ResidualBlock:
    return ResidualBlock(width, width, groups=config.groups, eps=EPS)


def build_middle(width: int, config: HunyuanConfig) -> Middle:
    attention = MapAttention(nn.GroupNorm(config.groups, width, eps=EPS), width)
    return Middle(build_block(width, config), attention, build_block(width, config))


class Encoder(nn.Module):
    """Image to mean and log-variance: 2 * channels feature maps at 1 / downscale."""

    def __init__(self, config: HunyuanConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in config.multipliers]
        self.conv_in = Convolution(3, widths[0])
        blocks: list[nn.Module] = []
        for index, width in enumerate(widths):
            blocks += [build_block(width, config) for _ in range(config.blocks)]
            blocks += [PackDown(width, after) for after in widths[index + 1 : index + 2]]
        self.down_blocks = nn.ModuleList(blocks)
        self.mid_block = build_middle(widths[-1], config)
        self.norm_out = NormSiLU(config.groups, widths[-1], EPS)
        self.conv_out = Convolution(widths[-1], 2 * config.channels)

    def stages(self) -> list[Stage]:
        head: list[Stage] = [save_skip, self.norm_out, self.conv_out, add_averaged]
        return [self.conv_in, *self.down_blocks, *self.mid_block.stages(), *head]


class Decoder(nn.Module):
    """Raw latent to image; one residual block more a level than the encoder."""

    def __init__(self, config: HunyuanConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in reversed(config.multipliers)]
        self.conv_in = Convolution(config.channels, widths[0])
        self.mid_block = build_middle(widths[0], config)
        blocks: list[nn.Module] = []
        for index, width in enumerate(widths):
            blocks += [build_block(width, config) for _ in range(config.blocks + 1)]
            blocks += [PackUp(width, after) for after in widths[index + 1 : index + 2]]
        self.up_blocks = nn.ModuleList(blocks)
        self.norm_out = NormSiLU(config.groups, widths[-1], EPS)
        self.conv_out = Convolution(widths[-1], 3)

    def stages(self) -> list[Stage]:
        head: list[Stage] = [save_skip, self.conv_in, add_repeated]
        return [*head, *self.mid_block.stages(), *self.up_blocks, self.norm_out, self.conv_out]


class HunyuanAutoencoder(StagedAutoencoder):
    """Encoder and decoder, nothing between them and the latent. Takes weights that `fold_hunyuan` has folded."""

    def __init__(self, config: HunyuanConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
