"""The autoencoder of Qwen-Image (arXiv 2508.02324) for one frame, as a list of stages.

Its files hold a causal video network, that of Wan 2.1 (arXiv 2503.20314, section 4.1). Before the first frame stand zeros, so a picture
meets the last tap of every kernel only; `fold_qwen` takes just those, and what is built here is a network in the plane.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.channelnorm import ChannelBlock, ChannelNorm, ChannelNormSiLU, Section
from ..nn.frames import drop_single, take_last_tap
from ..nn.mapattention import FusedMapAttention
from ..nn.stages import Convolution, Stage, State
from ..specs.network import QwenConfig
from .staged import StagedAutoencoder

# Names that end so belong to convolutions over time, between frames: they never act on a picture and are left out on purpose
TEMPORAL = (".time_conv.weight", ".time_conv.bias")


def fold_qwen(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the diffusers layout, with or without a frame axis, to those of QwenAutoencoder.

    Kernels keep their last tap, the factors of norms lose an axis of one entry, convolutions over time (`TEMPORAL`) are dropped.
    """
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(TEMPORAL)}
    return {name: fold_gamma(tensor) if name.endswith(".gamma") else take_last_tap(tensor) for name, tensor in kept.items()}


def fold_gamma(tensor: Tensor) -> Tensor:
    """The factors of a norm, [c, 1, 1, 1] with a frame axis, as [c, 1, 1]."""
    return drop_single(tensor, 1) if tensor.ndim == 4 else tensor


class Shrink(nn.Module):
    """Halves height and width with a strided 3x3 convolution, zeros to the right and the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resample = nn.ModuleList([nn.Identity(), nn.Conv2d(channels, channels, 3, stride=2)])  # public layouts count the padding

    def forward(self, x: Tensor, state: State) -> Tensor:
        return self.resample[1](F.pad(x, (0, 1, 0, 1)))


class Enlarge(nn.Module):
    """Doubles height and width by repeating pixels, then a 3x3 convolution to half the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resample = nn.ModuleList([nn.Identity(), Convolution(channels, channels // 2)])  # public layouts count the repetition

    def forward(self, x: Tensor, state: State) -> Tensor:
        return self.resample[1](F.interpolate(x, scale_factor=2.0, mode="nearest"))


def build_middle(width: int) -> Section:
    attention = FusedMapAttention(ChannelNorm(width), width)
    return Section((ChannelBlock(width, width) for _ in range(2)), [attention])


def build_blocks(channels: int, width: int, count: int) -> list[ChannelBlock]:
    return [ChannelBlock(channels if index == 0 else width, width) for index in range(count)]


class Encoder(nn.Module):
    """Image to mean and log-variance: 2 * channels feature maps at 1 / downscale."""

    def __init__(self, config: QwenConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in config.multipliers]
        self.conv_in = Convolution(3, config.width)
        blocks: list[nn.Module] = []
        for index, (before, width) in enumerate(zip([config.width, *widths], widths, strict=False)):
            blocks += [*build_blocks(before, width, config.blocks), *([Shrink(width)] if index < len(widths) - 1 else [])]
        self.down_blocks = nn.ModuleList(blocks)
        self.mid_block = build_middle(widths[-1])
        self.norm_out = ChannelNormSiLU(widths[-1])
        self.conv_out = Convolution(widths[-1], 2 * config.channels)

    def stages(self) -> list[Stage]:
        return [self.conv_in, *self.down_blocks, *self.mid_block.stages(), self.norm_out, self.conv_out]


class Decoder(nn.Module):
    """Raw latent to image; one residual block more a level than the encoder, and every way up halves the channels."""

    def __init__(self, config: QwenConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in reversed(config.multipliers)]
        self.conv_in = Convolution(config.channels, widths[0])
        self.mid_block = build_middle(widths[0])
        levels: list[Section] = []
        for index, (before, width) in enumerate(zip([widths[0], *(width // 2 for width in widths)], widths, strict=False)):
            up = Enlarge(width) if index < len(widths) - 1 else None
            levels.append(Section(build_blocks(before, width, config.blocks + 1), up=up))
        self.up_blocks = nn.ModuleList(levels)
        self.norm_out = ChannelNormSiLU(widths[-1])
        self.conv_out = Convolution(widths[-1], 3)

    def stages(self) -> list[Stage]:
        levels = [stage for level in self.up_blocks for stage in level.stages()]  # type: ignore[operator]
        return [self.conv_in, *self.mid_block.stages(), *levels, self.norm_out, self.conv_out]


class QwenAutoencoder(StagedAutoencoder):
    """Encoder and decoder with a 1x1 convolution each between them and the latent. Takes weights that `fold_qwen` has folded."""

    def __init__(self, config: QwenConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = Convolution(2 * config.channels, 2 * config.channels, 1)
        self.post_quant_conv = Convolution(config.channels, config.channels, 1)

    def encoder_stages(self) -> list[Stage]:
        return [*super().encoder_stages(), self.quant_conv]

    def decoder_stages(self) -> list[Stage]:
        return [self.post_quant_conv, *super().decoder_stages()]
