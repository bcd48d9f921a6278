"""Transformers over the pixels of a feature map with faster linear maps, and without the copies that leaving the pixels in place saves."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Attention, FeedForward, SpatialTransformer, TransformerBlock
from .streams import Map, Streams

ROWS = 1024  # tokens that a feed-forward takes at once: what it makes of them, eight times as wide, stays near


def run_transformer(streams: Streams, stage: SpatialTransformer, x: Map, tokens: Float[Tensor, "b n d"]) -> Map:
    """What the stage's own `forward` makes, within rounding."""
    normed = stage.norm(x.images).permute(0, 2, 3, 1).contiguous()
    hidden = apply(streams, stage.proj_in, normed.flatten(1, 2))
    for block in stage.transformer_blocks:
        assert isinstance(block, TransformerBlock)
        hidden = run_block(streams, block, hidden, tokens)
    return Map(pixels=apply(streams, stage.proj_out, hidden).view_as(x.pixels).add_(x.pixels))


def run_block(streams: Streams, block: TransformerBlock, x: Float[Tensor, "b n c"], tokens: Float[Tensor, "b m d"]) -> Tensor:
    """Writes over `x`."""
    normed = block.norm1(x)
    x.add_(attend(streams, block.attn1, normed, normed))
    x.add_(attend(streams, block.attn2, block.norm2(x), tokens))
    return x.add_(feed(streams, block.ff, block.norm3(x)))


def attend(streams: Streams, module: Attention, x: Tensor, tokens: Tensor) -> Tensor:
    given = ((module.to_q, x), (module.to_k, tokens), (module.to_v, tokens))
    q, k, v = (apply(streams, map, source).unflatten(-1, (module.heads, -1)).transpose(1, 2) for map, source in given)
    found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    return apply(streams, module.to_out[0], found.flatten(2).contiguous())


def feed(streams: Streams, module: FeedForward, x: Tensor) -> Tensor:
    """Some tokens at a time, each read and forgotten while it is near."""
    made = x.new_empty(x.shape)
    for source, target in zip(x.flatten(0, 1).split(ROWS), made.flatten(0, 1).split(ROWS), strict=True):
        value, gate = apply(streams, module.net[0].proj, source).chunk(2, dim=-1)  # type: ignore[arg-type]
        apply(streams, module.net[2], F.gelu(gate).mul_(value), target)
    return made


def apply(streams: Streams, map: nn.Module, x: Float[Tensor, "*n i"], target: Tensor | None = None) -> Float[Tensor, "*n o"]:
    """A linear map, or a 1x1 convolution taken as one."""
    weight, bias = map.weight, map.bias
    assert isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))
    return streams.apply(weight.flatten(1), bias, x, target)
