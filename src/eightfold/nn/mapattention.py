"""Single-head attention over all pixels of a feature map, its linear maps written as 1x1 convolutions (arXiv 1706.03762)."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .stages import State


def attend(q: Float[Tensor, "b c h w"], k: Float[Tensor, "b c h w"], v: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Every pixel of `q` asks all pixels of `k` and takes from `v`; scaled by 1 / sqrt(c)."""
    queries, keys, values = (rearrange(part, "b c h w -> b 1 (h w) c") for part in (q, k, v))
    return rearrange(F.scaled_dot_product_attention(queries, keys, values), "b 1 (h w) c -> b c h w", h=q.shape[-2])


class MapAttention(nn.Module):
    """Queries, keys and values each from a convolution of their own; `out` is the name of the last one."""

    def __init__(self, norm: nn.Module, channels: int, *, out: str = "proj") -> None:
        super().__init__()
        self.norm = norm
        self.to_q, self.to_k, self.to_v = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.out = out
        self.add_module(out, nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, state: State) -> Tensor:
        normed = self.norm(x)
        return x + self.get_submodule(self.out)(attend(self.to_q(normed), self.to_k(normed), self.to_v(normed)))


class FusedMapAttention(nn.Module):
    """Queries, keys and values are thirds of one convolution's output."""

    def __init__(self, norm: nn.Module, channels: int) -> None:
        super().__init__()
        self.norm = norm
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, state: State) -> Tensor:
        return x + self.proj(attend(*self.to_qkv(self.norm(x)).chunk(3, dim=1)))
