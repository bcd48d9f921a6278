"""A network as a graph of layers that work row by row: what can be run in strips of a picture, exactly.

Every value of the graph is one feature map [height, width, channels]. A layer says which rows of its inputs it reads to make some rows of
its own; nothing else of it matters to those who decide what is kept whole and what is made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from torch import Tensor, nn

from .channelnorm import ChannelNorm

SIDE = 4  # rows of a tile of the fast kernels: rows are made in multiples of it
Edge = Literal["zeros", "repeat"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Before:
    """What is done to the rows of a layer's first input: at most one normalisation, then at most one activation."""

    group: nn.GroupNorm | None = None
    channel: ChannelNorm | None = None
    silu: bool = False
    relu: bool = False

    @property
    def does_nothing(self) -> bool:
        return self.group is None and self.channel is None and not self.silu and not self.relu


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolve:
    """A 3x3 or 1x1 convolution [out, in, k, k], of the input or of the input enlarged twice (nearest). The second input, if any, is added.

    With stride 2, `symmetric` is a border of one pixel on every side, otherwise zeros go to the right and the bottom only.
    """

    weight: Tensor
    bias: Tensor | None
    before: Before = field(default_factory=Before)
    enlarge: bool = False
    stride: int = 1
    symmetric: bool = True
    edge: Edge = "zeros"

    @property
    def kernel(self) -> int:
        return self.weight.shape[-1]

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Attend:
    """Inputs are queries, keys and values; every pixel of the first asks all pixels of the others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Apply:
    """A function of rows [h, w, c] of all inputs, that looks at no neighbours but those of a 2x2 square it packs or unpacks."""

    function: Callable[..., Tensor]


Layer = Convolve | Attend | Apply


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """A layer with the numbers of the nodes it reads; the first node of a graph has no layer, it is the network's input.

    `scale` is its height (and width) for one row of the network's input.
    """

    layer: Layer | None
    inputs: tuple[int, ...]
    channels: int
    scale: Fraction

    @property
    def group(self) -> nn.GroupNorm | None:
        """The norm that needs the moments of the whole first input."""
        return self.layer.before.group if isinstance(self.layer, Convolve) else None

    @property
    def alignment(self) -> int:
        """Its rows are made in multiples of this many."""
        if isinstance(self.layer, Convolve) and self.layer.kernel == 3:
            return 2 * SIDE if self.layer.enlarge else SIDE
        return 2 if isinstance(self.layer, Apply) else 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """Nodes in an order in which they can be computed; the last one is the result."""

    nodes: tuple[Node, ...]

    def measure(self, height: int, width: int) -> list[tuple[int, int]]:
        """Height and width of every node for an input of this size."""
        return [(int(height * node.scale), int(width * node.scale)) for node in self.nodes]

    def find_normed(self) -> set[int]:
        """Nodes whose moments somebody needs."""
        return {node.inputs[0] for node in self.nodes if node.group is not None}


def find_rows(graph: Graph, number: int, slot: int, rows: tuple[int, int], height: int) -> tuple[int, int]:
    """Which rows of its input `slot`, one of `height` rows, a node reads to make its own from the first up to the second of `rows`."""
    node = graph.nodes[number]
    begin, end = rows
    layer = node.layer
    if isinstance(layer, Attend):
        low, high = rows if slot == 0 else (0, height)
    elif isinstance(layer, Convolve) and slot == 0:
        low, high = find_convolved(layer, begin, end)
    else:
        ratio = graph.nodes[node.inputs[slot]].scale / node.scale
        low, high = int(begin * ratio), -(-end * ratio // 1)
    return max(0, low), min(height, high)


def find_convolved(layer: Convolve, begin: int, end: int) -> tuple[int, int]:
    if layer.kernel == 1:
        return begin, end
    if layer.enlarge:  # a tile of the fast kernels makes 8 rows, the odd ones one row further up, out of 5
        return begin // 8 * SIDE - 1, end // 8 * SIDE + SIDE
    if layer.stride == 2:
        return (2 * begin - 1, 2 * end) if layer.symmetric else (2 * begin, 2 * end + 1)
    return begin - 1, end + 1
