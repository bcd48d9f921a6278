"""Differences to the weight of a linear map or a convolution, made of a few small factors, and how each runs beside its layer.

A difference is written as a matrix: one row an output, one column a number of the layer's weight for that output (input channels, then
the places of the kernel). `scale` is what the file says besides the factors, usually alpha / rank.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Layer = nn.Linear | nn.Conv2d
# The layer, its input and its own result, to what is added to that result. A branch that held its layer would be held by it, in a circle
Branch = Callable[[Layer, Tensor, Tensor], Tensor]


class Difference(ABC):
    """What is added to a layer's weight."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def kernel(self) -> tuple[int, int] | None:
        """Height and width of the only kernel that it fits; None where the columns alone decide."""
        return None

    @abstractmethod
    def to_matrix(self) -> Float[Tensor, "rows columns"]:
        """The difference itself, in float32."""

    def fits(self, layer: Layer) -> bool:
        own = layer.kernel_size if isinstance(layer, nn.Conv2d) else (1, 1)
        return self.shape == (len(layer.weight), layer.weight[0].numel()) and self.kernel in (None, own)

    def build_branch(self, layer: Layer) -> Branch:
        """By the difference itself, as a second product; in the type of the layer's weight, as everywhere."""
        weight = self.to_matrix().to(layer.weight).reshape(layer.weight.shape)
        return lambda at, x, _: run_layer(at, x, weight)


@dataclass(frozen=True, kw_only=True, eq=False)
class Full(Difference):
    """Every number by itself."""

    matrix: Float[Tensor, "rows columns"]
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    def to_matrix(self) -> Float[Tensor, "rows columns"]:
        return self.scale * self.matrix.float()


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRank(Difference):
    """LoRA, arXiv 2106.09685, section 4.1: D = scale * up @ down.

    With a core it is a convolution between two maps of channels (Tucker; LoCon in arXiv 2309.14859):
    D[o, (i, h, w)] = scale * sum over p, q of up[o, p] * core[p, q, h, w] * down[q, i].
    """

    up: Float[Tensor, "rows rank"]
    down: Float[Tensor, "rank2 inputs"]
    core: Float[Tensor, "rank rank2 h w"] | None = None
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        places = 1 if self.core is None else self.core[0, 0].numel()
        return self.up.shape[0], self.down.shape[1] * places

    @property
    def kernel(self) -> tuple[int, int] | None:
        return None if self.core is None else (self.core.shape[2], self.core.shape[3])

    def to_matrix(self) -> Float[Tensor, "rows columns"]:
        up, down = self.up.float(), self.down.float()
        if self.core is None:
            return self.scale * (up @ down)
        return self.scale * torch.einsum("op,pqhw,qi->oihw", up, self.core.float(), down).flatten(1)

    def build_branch(self, layer: Layer) -> Branch:
        like = layer.weight
        up, down = (self.scale * self.up.float()).to(like), self.down.to(like)
        if isinstance(layer, nn.Linear):
            if self.core is not None:  # of a 1x1 kernel
                up = up @ self.core.to(like)[:, :, 0, 0]
            return lambda at, x, _: F.linear(F.linear(x, down), up)
        up = up[:, :, None, None]
        if self.core is None:
            kernels = down.reshape(-1, *like.shape[1:])
            return lambda at, x, _: F.conv2d(run_layer(at, x, kernels), up)
        core, first = self.core.to(like), down[:, :, None, None]
        return lambda at, x, _: F.conv2d(run_layer(at, F.conv2d(x, first), core), up)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposed:
    """DoRA, arXiv 2402.09353, equation 5: the changed weight W + D, with every row brought to its length in `magnitude`.

    `by_input`: every input channel instead. What is added to W is m * (W + D) / |W + D| - W, so that half the weight of an adapter is
    half the way there.
    """

    difference: Difference
    magnitude: Float[Tensor, " channels"]
    by_input: bool = False

    def fits(self, layer: Layer) -> bool:
        return self.difference.fits(layer) and len(self.magnitude) == layer.weight.shape[1 if self.by_input else 0]

    def build_branch(self, layer: Layer) -> Branch:
        weight = layer.weight.detach()
        merged = weight.float() + self.difference.to_matrix().to(weight.device).reshape(weight.shape)
        axes = [axis for axis in range(weight.ndim) if axis != (1 if self.by_input else 0)]
        lengths = torch.linalg.vector_norm(merged, dim=axes).clamp_min(torch.finfo(torch.float32).tiny)
        factors = self.magnitude.to(lengths) / lengths
        times, more = (spread(one.to(weight.dtype), layer) for one in (factors, factors - 1))
        inner = self.difference.build_branch(layer)
        if self.by_input:
            return lambda at, x, own: run_layer(at, more * x, at.weight) + inner(at, times * x, own)
        if layer.bias is None:
            return lambda at, x, own: more * own + times * inner(at, x, own)
        bias = spread(layer.bias.detach(), layer)
        return lambda at, x, own: more * (own - bias) + times * inner(at, x, own)


Change = Difference | Decomposed


def spread(numbers: Tensor, layer: Layer) -> Tensor:
    """One number a channel, in the shape that multiplies what the layer takes or makes."""
    return numbers if isinstance(layer, nn.Linear) else numbers[:, None, None]


def run_layer(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """The layer with another weight, and without its bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    return F.conv2d(x, weight, stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
