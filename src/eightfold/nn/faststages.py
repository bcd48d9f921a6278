"""The stages of a U-Net with faster kernels: residual blocks, transformers, ways down and up; what else there is runs as it is.

Feature maps have their channels last in memory, as kernels want them and torch's own layers take them without a copy. The moments that a
convolution leaves are those that the next norm needs, also where the channels of a skip are joined to it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import SpatialTransformer
from .fasttransformer import run_transformer
from .stages import Down, ResidualBlock, Stage, State, Up, join_skip, run_stages, save_skip
from .streams import Map, Streams, join_channels, to_map

Kept = list[tuple[Tensor, Map]]  # the skips as stages see them, and what they are


class FastStages:
    """Runs a list of stages as `run_stages` does, on a CPU, in float32 and where no gradients are wanted; otherwise the plain way.

    A stage with forward hooks on it or on anything in it is called as it is, since its parts are otherwise not called one by one.
    """

    def __init__(self, streams: Streams) -> None:
        self.streams = streams

    def run(self, stages: Iterable[Stage], x: Tensor, state: State | None = None) -> Tensor:
        """As `run_stages`: within about 2e-4 of the largest number of its result."""
        stages, state = list(stages), state or State()
        if x.device.type != "cpu" or x.dtype != torch.float32 or wants_gradients(stages, x, state):
            return run_stages(stages, x, state)
        kept: Kept = []
        with torch.no_grad():
            here = to_map(x)
            for stage in stages:
                here = self.run_stage(stage, here, state, kept)
            return here.images.contiguous()

    def run_stage(self, stage: Stage, x: Map, state: State, kept: Kept) -> Map:
        if stage is save_skip:
            images = x.images
            state.skips.append(images)
            kept.append((images, x))
            return x
        if stage is join_skip:
            skip, (images, saved) = state.skips.pop(), kept.pop()
            return join_channels(x, saved if skip is images else to_map(skip))  # somebody may have changed it
        if isinstance(stage, nn.Module) and not has_hooks(stage):
            if type(stage) is ResidualBlock:
                return self.run_block(stage, x, state)
            if type(stage) is SpatialTransformer and state.tokens is not None:
                return run_transformer(self.streams, stage, x, state.tokens)
            if type(stage) is Down and stage.symmetric:
                return self.streams.halve(stage.conv, x)
            if type(stage) is Up and doubles(x, state) and self.streams.is_fast(stage.conv, x, enlarge=True):
                found = self.streams.convolve(stage.conv, x, enlarge=True)
                if found is not None:
                    return found
        return to_map(stage(x.images, state))

    def run_block(self, block: ResidualBlock, x: Map, state: State) -> Map:
        added = None
        if block.time_emb_proj is not None and state.time is not None:
            added = block.time_emb_proj(F.silu(state.time)).expand(len(x.pixels), -1)
        hidden = self.convolve(block.conv1, x, block.norm1, added=added)
        if block.conv_shortcut is None:
            return self.convolve(block.conv2, hidden, block.norm2, residual=x.pixels)
        shortcut = self.streams.apply(block.conv_shortcut.weight.flatten(1), block.conv_shortcut.bias, x.pixels)
        return self.convolve(block.conv2, hidden, block.norm2, residual=shortcut, target=shortcut)

    def convolve(
        self,
        conv: nn.Conv2d,
        x: Map,
        norm: nn.GroupNorm,
        *,
        added: Tensor | None = None,
        residual: Tensor | None = None,
        target: Tensor | None = None,
    ) -> Map:
        """One convolution of a block behind its norm and SiLU; by torch where the kernels do not fit it or would round too much."""
        if self.streams.is_fast(conv, x):
            found = self.streams.convolve(conv, x, norm=norm, added=added, residual=residual, target=target)
            if found is not None:
                return found
        made = conv(F.silu(norm(x.images), inplace=True)).permute(0, 2, 3, 1)
        for one in (None if added is None else added[:, None, None, :], residual):
            made = made if one is None else made.add_(one)
        return Map(pixels=made.contiguous())


def has_hooks(module: nn.Module) -> bool:
    """Whether anything is to happen when a module, or one inside of it, is called."""
    return any(one._forward_hooks or one._forward_pre_hooks for one in module.modules())


def doubles(x: Map, state: State) -> bool:
    """Whether a U-Net's way up makes exactly twice as many rows and columns here."""
    _, height, width, _ = x.pixels.shape
    return not state.skips or tuple(state.skips[-1].shape[-2:]) == (2 * height, 2 * width)


def wants_gradients(stages: Iterable[Stage], x: Tensor, state: State) -> bool:
    if not torch.is_grad_enabled():
        return False
    given = any(one is not None and one.requires_grad for one in (x, state.time, state.tokens))
    return given or any(one.requires_grad for stage in stages if isinstance(stage, nn.Module) for one in stage.parameters())
