"""From the list of stages that a network is to the graph of layers that strips and kernels work on.

What a stage does is written here once more, as data: a test holds the graph of every autoencoder to the plain loop over its stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..autoencoders.qwen import Enlarge, Shrink
from ..autoencoders.tiny import BOUND, Double, Halve, Rectify, Scale, Smooth, Squeeze, TinyBlock
from ..nn.attention import PixelAttention
from ..nn.channelnorm import ChannelBlock, ChannelNorm, ChannelNormSiLU
from ..nn.frames import EdgeConvolution
from ..nn.graph import Apply, Attend, Before, Convolve, Graph, Layer, Node
from ..nn.mapattention import FusedMapAttention, MapAttention
from ..nn.packing import PackDown, PackUp, add_averaged, add_repeated
from ..nn.stages import Convolution, Down, NormSiLU, ResidualBlock, Stage, Up, save_skip


class NotLowered(Exception):
    """A stage that no layer here describes; the plain loop runs it."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """A node, and what the convolution that reads it will do to it first."""

    node: int
    before: Before = field(default_factory=Before)
    enlarge: bool = False


@dataclass
class Builder:
    nodes: list[Node]
    skips: list[int] = field(default_factory=list)

    def add(self, layer: Layer, inputs: tuple[int, ...], channels: int, scale: Fraction) -> Value:
        self.nodes.append(Node(layer=layer, inputs=inputs, channels=channels, scale=scale))
        return Value(node=len(self.nodes) - 1)

    def scale(self, value: Value) -> Fraction:
        return self.nodes[value.node].scale

    def channels(self, value: Value) -> int:
        return self.nodes[value.node].channels

    def convolve(self, x: Value, module: nn.Module, *, residual: Value | None = None, **how: Any) -> Value:
        """A convolution or a linear map of `x`, and of what is pending on it."""
        weight, bias = get_weights(module)
        return self.convolve_by(x, weight, bias, residual=residual, **how)

    def convolve_by(self, x: Value, weight: Tensor, bias: Tensor | None, *, residual: Value | None = None, **how: Any) -> Value:
        layer = Convolve(weight=weight, bias=bias, before=x.before, enlarge=x.enlarge, **how)
        if layer.enlarge and (layer.kernel != 3 or layer.stride != 1):
            raise NotLowered("something other than a 3x3 convolution reads an enlarged feature map")
        scale = self.scale(x) * (2 if x.enlarge else 1) / layer.stride
        inputs = (x.node,) if residual is None else (x.node, self.settle(residual))
        return self.add(layer, inputs, layer.outputs, scale)

    def apply(self, function: Callable[..., Tensor], *values: Value, channels: int, scale: Fraction) -> Value:
        return self.add(Apply(function=function), tuple(self.settle(value) for value in values), channels, scale)

    def attend(self, x: Value, q: Value, k: Value, v: Value) -> Value:
        return self.add(Attend(), (q.node, k.node, v.node), self.channels(v), self.scale(x))

    def settle(self, value: Value) -> int:
        """The node of a value on which nothing is pending."""
        if value.enlarge or not value.before.does_nothing:
            raise NotLowered("something other than a convolution reads a normalised or enlarged feature map")
        return value.node


def get_weights(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight [out, in, k, k] and bias of a convolution or a linear map."""
    if isinstance(module, EdgeConvolution):
        module = module.conv
    if not isinstance(module, nn.Conv2d | nn.Linear):
        raise NotLowered(f"{type(module).__name__} is neither a convolution nor a linear map")
    weight = module.weight.detach()
    return (weight[:, :, None, None] if weight.ndim == 2 else weight), None if module.bias is None else module.bias.detach()


def to_before(norm: nn.Module, *, silu: bool = False) -> Before:
    if isinstance(norm, nn.GroupNorm):
        return Before(group=norm, silu=silu or isinstance(norm, NormSiLU))
    if isinstance(norm, ChannelNorm):
        return Before(channel=norm, silu=silu or isinstance(norm, ChannelNormSiLU))
    raise NotLowered(f"{type(norm).__name__} is no norm that is known here")


def to_edge(module: nn.Module) -> dict[str, Any]:
    return {"edge": "repeat"} if isinstance(module, EdgeConvolution) else {}


def lower_convolution(builder: Builder, stage: Any, x: Value) -> Value:
    return builder.convolve(x, stage, **to_edge(stage))


def lower_norm(builder: Builder, stage: Any, x: Value) -> Value:
    return replace(x, node=builder.settle(x), before=to_before(stage))


def lower_block(builder: Builder, block: Any, x: Value) -> Value:
    """Both kinds of residual block: normalised over groups of channels and pixels, or over the channels of a pixel."""
    if getattr(block, "time_emb_proj", None) is not None:
        raise NotLowered("a residual block with a time embedding")
    builder.settle(x)
    hidden = builder.convolve(replace(x, before=to_before(block.norm1, silu=True)), block.conv1, **to_edge(block.conv1))
    shortcut = x if block.conv_shortcut is None else builder.convolve(x, block.conv_shortcut)
    normed = replace(hidden, before=to_before(block.norm2, silu=True))
    return builder.convolve(normed, block.conv2, residual=shortcut, **to_edge(block.conv2))


def lower_attention(builder: Builder, stage: Any, x: Value) -> Value:
    norm, out = (stage.group_norm, stage.to_out[0]) if isinstance(stage, PixelAttention) else (stage.norm, stage.get_submodule(stage.out))
    normed = replace(x, before=to_before(norm))
    q, k, v = (builder.convolve(normed, one) for one in (stage.to_q, stage.to_k, stage.to_v))
    return builder.convolve(builder.attend(x, q, k, v), out, residual=x)


def lower_fused_attention(builder: Builder, stage: Any, x: Value) -> Value:
    normed = replace(x, before=to_before(stage.norm))
    weight, bias = get_weights(stage.to_qkv)
    biases = [None] * 3 if bias is None else bias.chunk(3)
    q, k, v = (builder.convolve_by(normed, *one) for one in zip(weight.chunk(3), biases, strict=True))
    return builder.convolve(builder.attend(x, q, k, v), stage.proj, residual=x)


def lower_up(builder: Builder, stage: Any, x: Value) -> Value:
    return builder.convolve(replace(x, enlarge=True), stage.conv if isinstance(stage, Up) else stage.resample[1])


def lower_down(builder: Builder, stage: Any, x: Value) -> Value:
    if isinstance(stage, Halve):
        return builder.convolve(x, stage, stride=2)
    if isinstance(stage, Shrink):
        return builder.convolve(x, stage.resample[1], stride=2, symmetric=False)
    return builder.convolve(x, stage.conv, stride=2, symmetric=stage.symmetric)


def lower_pack_down(builder: Builder, stage: Any, x: Value) -> Value:
    wide, outputs, copies = builder.convolve(x, stage.conv, **to_edge(stage.conv)), stage.out_channels, stage.copies

    def pack_and_add(wide: Tensor, x: Tensor) -> Tensor:
        packed = pack_rows(wide).repeat(1, 1, copies)
        return packed.add_(average_rows(pack_rows(x), outputs))

    return builder.apply(pack_and_add, wide, x, channels=outputs, scale=builder.scale(x) / 2)


def lower_pack_up(builder: Builder, stage: Any, x: Value) -> Value:
    wide = builder.convolve(x, stage.conv, **to_edge(stage.conv))

    def add_and_unpack(wide: Tensor, x: Tensor) -> Tensor:
        total = wide.unflatten(-1, (x.shape[-1], -1)) + x[..., None]  # every channel of x is repeated
        return rearrange(total.flatten(-2), "h w (r s c) -> (h r) (w s) c", r=2, s=2)

    return builder.apply(add_and_unpack, wide, x, channels=builder.channels(wide) // 4, scale=builder.scale(x) * 2)


def pack_rows(rows: Tensor) -> Tensor:
    return rearrange(rows, "(h r) (w s) c -> h w (r s c)", r=2, s=2)


def average_rows(rows: Tensor, channels: int) -> Tensor:
    return rows.unflatten(-1, (channels, -1)).mean(dim=-1)


def lower_save(builder: Builder, stage: Any, x: Value) -> Value:
    builder.skips.append(builder.settle(x))
    return x


def lower_add_averaged(builder: Builder, stage: Any, x: Value) -> Value:
    channels = builder.channels(x)
    skip = Value(node=builder.skips.pop())
    return builder.apply(lambda x, skip: x + average_rows(skip, channels), x, skip, channels=channels, scale=builder.scale(x))


def lower_add_repeated(builder: Builder, stage: Any, x: Value) -> Value:
    skip = Value(node=builder.skips.pop())

    def add(x: Tensor, skip: Tensor) -> Tensor:
        return (x.unflatten(-1, (skip.shape[-1], -1)) + skip[..., None]).flatten(-2)

    return builder.apply(add, x, skip, channels=builder.channels(x), scale=builder.scale(x))


def lower_rectify(builder: Builder, stage: Any, x: Value) -> Value:
    return replace(x, node=builder.settle(x), before=Before(relu=True))


def lower_double(builder: Builder, stage: Any, x: Value) -> Value:
    return replace(x, node=builder.settle(x), enlarge=True)


def lower_tiny_block(builder: Builder, block: Any, x: Value) -> Value:
    first, _, second, _, third = block.conv
    x = rectify(builder, x)
    hidden = builder.convolve(x, first)
    hidden = builder.convolve(replace(hidden, before=Before(relu=True)), second)
    total = builder.convolve(replace(hidden, before=Before(relu=True)), third, residual=x)
    return rectify(builder, replace(total, before=Before(relu=True)))


def rectify(builder: Builder, x: Value) -> Value:
    """A feature map whose negative values are gone already, where they were to go."""
    if not x.before.relu:
        return x
    return builder.apply(lambda x: x.relu(), Value(node=x.node), channels=builder.channels(x), scale=builder.scale(x))


def lower_scale(builder: Builder, stage: Any, x: Value) -> Value:
    factor, shift = stage.factor, stage.shift
    return builder.apply(lambda x: x * factor + shift, x, channels=builder.channels(x), scale=builder.scale(x))


def lower_squeeze(builder: Builder, stage: Any, x: Value) -> Value:
    return builder.apply(lambda x: torch.tanh(x / BOUND) * BOUND, x, channels=builder.channels(x), scale=builder.scale(x))


LOWER: dict[Any, Callable[[Builder, Any, Value], Value]] = {
    Convolution: lower_convolution,
    EdgeConvolution: lower_convolution,
    Smooth: lower_convolution,
    NormSiLU: lower_norm,
    ChannelNormSiLU: lower_norm,
    ResidualBlock: lower_block,
    ChannelBlock: lower_block,
    PixelAttention: lower_attention,
    MapAttention: lower_attention,
    FusedMapAttention: lower_fused_attention,
    Up: lower_up,
    Enlarge: lower_up,
    Down: lower_down,
    Shrink: lower_down,
    Halve: lower_down,
    PackDown: lower_pack_down,
    PackUp: lower_pack_up,
    save_skip: lower_save,
    add_averaged: lower_add_averaged,
    add_repeated: lower_add_repeated,
    Rectify: lower_rectify,
    Double: lower_double,
    TinyBlock: lower_tiny_block,
    Scale: lower_scale,
    Squeeze: lower_squeeze,
}


def lower(stages: Iterable[Stage], channels: int) -> Graph:
    """The graph of a list of stages whose input has `channels`. Raises NotLowered for a stage that is not known here."""
    builder = Builder([Node(layer=None, inputs=(), channels=channels, scale=Fraction(1))])
    x = Value(node=0)
    for stage in stages:
        kind = stage if stage in LOWER else type(stage)
        if kind not in LOWER:
            raise NotLowered(f"{type(stage).__name__} is no stage that is known here")
        x = LOWER[kind](builder, stage, x)
    x = rectify(builder, x)
    builder.settle(x)
    return Graph(nodes=tuple(builder.nodes))
