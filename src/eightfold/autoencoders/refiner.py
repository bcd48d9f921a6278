"""The autoencoder of HunyuanImage 2.1's refiner for one frame, as a list of stages: 32 channels at 1/16.

Its files hold a causal video network whose convolutions repeat the edge, in the plane and before the first frame, so that a picture
meets the sum of every kernel's taps; `fold_refiner` adds them up, and what is built here is a network in the plane.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from einops import rearrange
from torch import Tensor, nn

from ..nn.channelnorm import ChannelBlock, ChannelNorm, ChannelNormSiLU, Section
from ..nn.frames import EdgeConvolution, add_taps, drop_single
from ..nn.mapattention import MapAttention
from ..nn.packing import PackDown, PackUp, add_averaged, add_repeated
from ..nn.stages import Stage, save_skip
from ..specs.network import RefinerConfig
from .staged import StagedAutoencoder

WAY_UP = re.compile(r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.conv\.conv\.(weight|bias)")


def fold_refiner(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the diffusers layout, with or without a frame axis, to those of RefinerAutoencoder.

    The taps of every kernel are added, the factors of norms lose an axis of one entry. A way up that would double time makes two frames
    and drops the second at the first frame: the rows that make it are dropped here.
    """
    return {name: fold(name, tensor, tensors) for name, tensor in tensors.items()}


def fold(name: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    if name.endswith(".gamma"):
        return drop_single(tensor, 1) if tensor.ndim == 4 else tensor
    way_up = WAY_UP.fullmatch(name)
    if way_up:
        after = tensors.get(f"decoder.up_blocks.{int(way_up[1]) + 1}.resnets.0.norm1.gamma")
        if after is not None and len(tensor) == 8 * len(after):
            tensor = rearrange(tensor, "(pixel frame channel) ... -> frame (pixel channel) ...", pixel=4, frame=2)[0]
    return add_taps(tensor)


def build_block(width: int) -> ChannelBlock:
    return ChannelBlock(width, width, EdgeConvolution)


def build_middle(width: int) -> Section:
    return Section((build_block(width) for _ in range(2)), [MapAttention(ChannelNorm(width), width, out="proj_out")])


class Encoder(nn.Module):
    """Image to mean and log-variance: 2 * channels feature maps at 1 / downscale."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in config.multipliers]
        self.conv_in = EdgeConvolution(3, widths[0])
        levels: list[Section] = []
        for index, width in enumerate(widths):
            copies = 2 if index >= len(widths) - 1 - config.halvings_of_time else 1
            down = PackDown(width, widths[index + 1], EdgeConvolution, copies=copies) if index < len(widths) - 1 else None
            levels.append(Section((build_block(width) for _ in range(config.blocks)), down=down))
        self.down_blocks = nn.ModuleList(levels)
        self.mid_block = build_middle(widths[-1])
        self.norm_out = ChannelNormSiLU(widths[-1])
        self.conv_out = EdgeConvolution(widths[-1], 2 * config.channels)

    def stages(self) -> list[Stage]:
        levels = [stage for level in self.down_blocks for stage in level.stages()]  # type: ignore[operator]
        return [self.conv_in, *levels, *self.mid_block.stages(), save_skip, self.norm_out, self.conv_out, add_averaged]


class Decoder(nn.Module):
    """Raw latent to image; one residual block more a level than the encoder."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in reversed(config.multipliers)]
        self.conv_in = EdgeConvolution(config.channels, widths[0])
        self.mid_block = build_middle(widths[0])
        levels: list[Section] = []
        for index, width in enumerate(widths):
            up = PackUp(width, widths[index + 1], EdgeConvolution) if index < len(widths) - 1 else None
            levels.append(Section((build_block(width) for _ in range(config.blocks + 1)), up=up))
        self.up_blocks = nn.ModuleList(levels)
        self.norm_out = ChannelNormSiLU(widths[-1])
        self.conv_out = EdgeConvolution(widths[-1], 3)

    def stages(self) -> list[Stage]:
        levels = [stage for level in self.up_blocks for stage in level.stages()]  # type: ignore[operator]
        return [save_skip, self.conv_in, add_repeated, *self.mid_block.stages(), *levels, self.norm_out, self.conv_out]


class RefinerAutoencoder(StagedAutoencoder):
    """Encoder and decoder, nothing between them and the latent. Takes weights that `fold_refiner` has folded."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
