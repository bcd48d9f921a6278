"""The U-Net of latent diffusion as a list of stages; the skips between its two sides are stages too (arXiv 2112.10752)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.attention import SpatialTransformer
from ..nn.position import to_sinusoid
from ..nn.stages import Convolution, Down, Level, Middle, NormSiLU, ResidualBlock, Stage, State, Up, join_skip, run_stages, save_skip
from ..specs.network import UNetConfig, VectorConfig

EPS = 1e-5


class TimeEmbedding(nn.Module):
    """A two-layer network on the sinusoids of the timestep, to which those of something else may be added, `beside` of them."""

    def __init__(self, width: int, out_width: int, beside: int | None = None) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, out_width)
        self.linear_2 = nn.Linear(out_width, out_width)
        self.cond_proj = None if beside is None else nn.Linear(beside, width, bias=False)

    def forward(self, sinusoid: Tensor, beside: Tensor | None = None) -> Tensor:
        if self.cond_proj is not None and beside is not None:
            sinusoid = sinusoid + self.cond_proj(beside)
        return self.linear_2(F.silu(self.linear_1(sinusoid)))


def to_vector(config: VectorConfig, pooled: Float[Tensor, "b p"], numbers: Mapping[str, float]) -> Float[Tensor, "b v"]:
    """What Stable Diffusion XL is told beside tokens: the text as a whole, and `numbers` by their names."""
    values = torch.tensor([numbers[name] for name in config.numbers], device=pooled.device)
    sinusoids = to_sinusoid(values, config.sinusoid).flatten().to(pooled.dtype)
    return torch.cat([pooled, sinusoids.expand(len(pooled), -1)], dim=1)


def to_guidance(scale: Float[Tensor, " b"], width: int) -> Float[Tensor, "b width"]:
    """A guidance scale as a network that was distilled to it is told (google-research/vdm, model_vdm.py, as latent consistency models do).

    1000 * (scale - 1) as sines, then cosines; the longest wavelength is 10000 times the shortest.
    """
    half = width // 2
    frequencies = torch.exp(-torch.arange(half, device=scale.device, dtype=torch.float32) / (half - 1) * log(10_000.0))
    angles = 1000 * (scale[:, None].float() - 1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class HalfUNet(nn.Module):
    """The way down of a U-Net and its middle: what it has in common with a ControlNet."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = list_widths(config)
        self.conv_in = Convolution(config.channels, widths[0])
        self.time_embedding = TimeEmbedding(config.width, 4 * config.width, config.guidance)
        self.add_embedding = None if config.vector is None else TimeEmbedding(config.vector.width, 4 * config.width)
        self.down_blocks = nn.ModuleList(build_down(config, widths))
        first, second = (build_block(config, widths[-1], widths[-1]) for _ in range(2))
        middle = build_transformer(config, widths[-1], config.middle) if config.middle else None
        self.mid_block = Middle(first, middle, second)

    def stages_down(self) -> list[Stage]:
        """All behind `conv_in`, up to the middle's last; every feature map that the way up takes is kept."""
        stages: list[Stage] = [save_skip]
        for level in self.down_blocks:
            assert isinstance(level, Level)
            for block in level.blocks():
                stages += [*block, save_skip]
            for resizer in level.resizers():
                stages += [resizer, save_skip]
        return stages + self.mid_block.stages()

    def embed(
        self,
        timestep: Float[Tensor, " b"],
        vector: Float[Tensor, "b v"] | None,
        dtype: torch.dtype,
        guidance: Float[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b e"]:
        """What residual blocks are told of the time, of the guidance and of the vector."""
        time = self.time_embedding(to_sinusoid(timestep, self.config.width).to(dtype), self.embed_guidance(guidance, dtype))
        if self.add_embedding is None:
            return time
        if vector is None:
            raise ValueError("this network is told a vector beside the tokens: see `to_vector`")
        return time + self.add_embedding(vector)

    def embed_guidance(self, guidance: Float[Tensor, " b"] | None, dtype: torch.dtype) -> Float[Tensor, "b w"] | None:
        """None where the network is told nothing of it."""
        if self.config.guidance is None:
            return None
        if guidance is None:
            raise ValueError("this network is told its guidance: see `to_guidance`")
        return to_guidance(guidance, self.config.guidance).to(dtype)


@dataclass(frozen=True, eq=False)
class ControlResiduals:
    """What is added behind the middle of a U-Net: to every skip, in the order that they were kept in, and to the middle."""

    skips: tuple[Float[Tensor, "_ _ _ _"], ...]
    middle: Float[Tensor, "_ _ _ _"]

    def add_to(self, x: Tensor, state: State) -> Tensor:
        """The middle with its own; the skips of `state` are replaced."""
        state.skips = [skip + more for skip, more in zip(state.skips, self.skips, strict=True)]
        return x + self.middle


class UNet(HalfUNet):
    """Noisy latent, timestep and text tokens to the prediction (noise, velocity or clean latent: the family says which)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        widths = list_widths(config)
        self.up_blocks = nn.ModuleList(build_up(config, widths))
        self.conv_norm_out = NormSiLU(config.groups, widths[0], EPS)
        self.conv_out = Convolution(widths[0], config.out_channels)

    def stages_up(self) -> list[Stage]:
        """All behind the middle."""
        stages: list[Stage] = []
        for level in self.up_blocks:
            assert isinstance(level, Level)
            for block in level.blocks():
                stages += [join_skip, *block]
            stages += level.resizers()
        return [*stages, self.conv_norm_out, self.conv_out]

    def stages(self, added: ControlResiduals | None = None) -> list[Stage]:
        return [self.conv_in, *self.stages_down(), *([] if added is None else [added.add_to]), *self.stages_up()]

    def forward(
        self,
        noisy: Float[Tensor, "b c h w"],
        timestep: Float[Tensor, " b"],
        tokens: Float[Tensor, "b n d"] | None = None,
        vector: Float[Tensor, "b v"] | None = None,
        added: ControlResiduals | None = None,
        guidance: Float[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b c2 h w"]:
        """`timestep` counts the process's table entries from 0, fractions allowed. `vector`: see `to_vector`. `added` comes of ControlNets.

        `guidance` is the scale for a network that is told it. Raises ValueError where one of what the network is told is missing.
        """
        state = State(time=self.embed(timestep, vector, noisy.dtype, guidance), tokens=tokens)
        return run_stages(self.stages(added), noisy, state)


def list_widths(config: UNetConfig) -> list[int]:
    """The channels of every level."""
    return [config.width * multiplier for multiplier in config.multipliers]


def list_skips(config: UNetConfig) -> list[int]:
    """The channels of every feature map that is kept for the way up, in that order."""
    widths = list_widths(config)
    skips = [widths[0]]
    for index, width in enumerate(widths):
        skips += [width] * (config.blocks + (index < len(widths) - 1))
    return skips


def build_block(config: UNetConfig, channels: int, out_channels: int) -> ResidualBlock:
    return ResidualBlock(channels, out_channels, groups=config.groups, eps=EPS, embedding=4 * config.width)


def build_transformer(config: UNetConfig, width: int, blocks: int) -> SpatialTransformer:
    heads = config.to_heads(width)
    return SpatialTransformer(
        width, blocks=blocks, heads=heads, context=config.context, groups=config.groups, linear=config.linear_projection
    )


def build_down(config: UNetConfig, widths: list[int]) -> list[Level]:
    levels: list[Level] = []
    for index, (before, width, depth) in enumerate(zip([widths[0], *widths], widths, config.attention, strict=False)):
        blocks = [build_block(config, before if block == 0 else width, width) for block in range(config.blocks)]
        attentions = [build_transformer(config, width, depth) for _ in blocks if depth]
        levels.append(Level(blocks, attentions, down=Down(width, symmetric=True) if index < len(widths) - 1 else None))
    return levels


def build_up(config: UNetConfig, widths: list[int]) -> list[Level]:
    """From the lowest resolution up; every residual block also takes the channels of one skip."""
    skips = list_skips(config)
    levels: list[Level] = []
    channels = widths[-1]
    for index in reversed(range(len(widths))):
        width, depth = widths[index], config.attention[index]
        blocks: list[ResidualBlock] = []
        for _ in range(config.blocks + 1):
            blocks.append(build_block(config, channels + skips.pop(), width))
            channels = width
        attentions = [build_transformer(config, width, depth) for _ in blocks if depth]
        levels.append(Level(blocks, attentions, up=Up(width) if index > 0 else None))
    return levels
