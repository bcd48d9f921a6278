"""Attention over pixels and from pixels to text, built on torch's scaled dot-product attention (arXiv 1706.03762)."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .stages import State


class Attention(nn.Module):
    """Multi-head attention from `width` channels to tokens of `context` channels (to itself where `context` is None)."""

    def __init__(self, width: int, *, heads: int, context: int | None = None, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(context or width, width, bias=bias)
        self.to_v = nn.Linear(context or width, width, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, tokens: Tensor | None = None) -> Tensor:
        tokens = x if tokens is None else tokens
        q, k, v = (rearrange(part, "b n (h d) -> b h n d", h=self.heads) for part in (self.to_q(x), self.to_k(tokens), self.to_v(tokens)))
        return self.to_out[0](rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


class PixelAttention(Attention):
    """The autoencoder's attention: one head over all pixels, normalised before and added to its input."""

    def __init__(self, channels: int, *, groups: int, eps: float) -> None:
        super().__init__(channels, heads=1, bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, eps=eps)

    def forward(self, x: Tensor, state: State) -> Tensor:  # type: ignore[override]
        tokens = rearrange(self.group_norm(x), "b c h w -> b (h w) c")
        return x + rearrange(super().forward(tokens), "b (h w) c -> b c h w", h=x.shape[-2])


class GEGLU(nn.Module):
    """A linear map whose one half is gated by the GELU of the other (arXiv 2002.05202)."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * out_width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Four times wider and back. The gap in the numbering stands for a dropout that public layouts count."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    """Self-attention, attention to the text, feed-forward; each normalised before and added to its input."""

    def __init__(self, width: int, *, heads: int, context: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads=heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, heads=heads, context=context)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), tokens)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map, added to it (arXiv 2112.10752, section 3.3)."""

    EPS = 1e-6  # the residual blocks around it use 1e-5

    def __init__(self, channels: int, *, blocks: int, heads: int, context: int, groups: int, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, channels, eps=self.EPS)
        self.proj_in = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(channels, heads=heads, context=context) for _ in range(blocks))
        self.proj_out = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, state: State) -> Tensor:
        if state.tokens is None:
            raise ValueError("this network attends to text: it needs tokens of shape b n d")
        hidden = self.norm(x)
        if not self.linear:
            hidden = self.proj_in(hidden)
        hidden = rearrange(hidden, "b c h w -> b (h w) c")
        if self.linear:
            hidden = self.proj_in(hidden)
        for block in self.transformer_blocks:
            hidden = block(hidden, state.tokens)
        if self.linear:
            hidden = self.proj_out(hidden)
        hidden = rearrange(hidden, "b (h w) c -> b c h w", h=x.shape[-2])
        if not self.linear:
            hidden = self.proj_out(hidden)
        return x + hidden
