"""Differences to a layer's weight that are products of smaller ones: number by number (LoHa), and of Kronecker (LoKr)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .lowrank import Branch, Difference, Full, Layer, LowRank, run_layer


@dataclass(frozen=True, kw_only=True, eq=False)
class Hadamard(Difference):
    """FedPara, arXiv 2108.06098, proposition 1 (LoHa in arXiv 2309.14859): D = scale * first * second, number by number."""

    first: LowRank
    second: LowRank
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.first.shape

    @property
    def kernel(self) -> tuple[int, int] | None:
        return self.first.kernel

    def to_matrix(self) -> Float[Tensor, "rows columns"]:
        return self.scale * self.first.to_matrix() * self.second.to_matrix()

    def build_branch(self, layer: Layer) -> Branch:
        """By factors where these need fewer products: all products of a column with a column are the columns of a LoRA of rank * rank."""
        rows, columns = self.shape
        rank = self.first.up.shape[1] * self.second.up.shape[1]
        if self.first.core is not None or self.second.core is not None or rank * (rows + columns) >= rows * columns:
            return super().build_branch(layer)
        up = torch.einsum("op,oq->opq", self.first.up.float(), self.second.up.float()).flatten(1)
        down = torch.einsum("pi,qi->pqi", self.first.down.float(), self.second.down.float()).flatten(0, 1)
        return LowRank(up=up, down=down, scale=self.scale * self.first.scale * self.second.scale).build_branch(layer)


@dataclass(frozen=True, kw_only=True, eq=False)
class Kronecker(Difference):
    """KronA, arXiv 2212.10650 (LoKr in arXiv 2309.14859): D = scale * kron(left, right).

    `right` has the places of the kernel in its columns, `left` has not.
    """

    left: Full | LowRank
    right: Full | LowRank
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0] * self.right.shape[0], self.left.shape[1] * self.right.shape[1]

    @property
    def kernel(self) -> tuple[int, int] | None:
        return self.right.kernel

    def to_matrix(self) -> Float[Tensor, "rows columns"]:
        return self.scale * torch.kron(self.left.to_matrix(), self.right.to_matrix())

    def fits(self, layer: Layer) -> bool:
        return super().fits(layer) and layer.weight.shape[1] % self.left.shape[1] == 0

    def build_branch(self, layer: Layer) -> Branch:
        """The input in as many groups as `left` has columns: `right` runs on each, `left` mixes the groups."""
        left, right = (self.scale * self.left.to_matrix()).to(layer.weight), self.right.to_matrix().to(layer.weight)
        groups = left.shape[1]
        if isinstance(layer, nn.Linear):
            return lambda at, x, _: (left @ F.linear(x.unflatten(-1, (groups, -1)), right)).flatten(-2)
        kernels = right.reshape(len(right), -1, *layer.kernel_size)

        def run(at: Layer, x: Tensor, _: Tensor) -> Tensor:
            each = run_layer(at, x.reshape(len(x) * groups, -1, *x.shape[2:]), kernels)
            mixed = left @ each.reshape(len(x), groups, -1)
            return mixed.reshape(len(x), -1, *each.shape[2:])

        return run
