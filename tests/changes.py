"""Random low-rank changes to a layer, with the weight that each should give, worked out number by number or block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eightfold.nn.lowrank import Change, Decomposed, Full, LowRank
from eightfold.nn.products import Hadamard, Kronecker
from weights import draw


class Example(NamedTuple):
    """A change, and the weight of its layer with it."""

    change: Change
    weight: Tensor


def shape_kernel(layer: nn.Module) -> tuple[int, int]:
    return layer.kernel_size if isinstance(layer, nn.Conv2d) else (1, 1)


def draw_product(rows: int, columns: int, seed: int, rank: int = 3) -> LowRank:
    return LowRank(up=draw(rows, rank, seed=seed), down=draw(rank, columns, seed=seed + 1))


def multiply_core(up: Tensor, core: Tensor, down: Tensor) -> Tensor:
    """Rows, channels, height, width; one pair of ranks after the other."""
    total = torch.zeros(len(up), down.shape[1], *core.shape[2:])
    for p in range(core.shape[0]):
        for q in range(core.shape[1]):
            total += up[:, p, None, None, None] * core[p, q] * down[q, None, :, None, None]
    return total


def tile_blocks(left: Tensor, right: Tensor) -> Tensor:
    """The Kronecker product of matrices, a block at a time."""
    return torch.cat([torch.cat([number * right for number in row], dim=1) for row in left])


def build_lora(layer: nn.Module, seed: int) -> Example:
    weight = layer.weight
    change = draw_product(len(weight), weight[0].numel(), seed)
    change = LowRank(up=change.up, down=change.down, scale=0.3)
    return Example(change, weight + 0.3 * torch.stack([row @ change.down for row in change.up]).reshape(weight.shape))


def build_tucker(layer: nn.Module, seed: int) -> Example:
    weight, core = layer.weight, draw(3, 2, *shape_kernel(layer), seed=seed + 2)
    up, down = draw(len(weight), 3, seed=seed), draw(2, weight.shape[1], seed=seed + 1)
    return Example(LowRank(up=up, down=down, core=core, scale=0.2), weight + 0.2 * multiply_core(up, core, down).reshape(weight.shape))


def build_loha(layer: nn.Module, seed: int, rank: int = 1) -> Example:
    weight = layer.weight
    first, second = (draw_product(len(weight), weight[0].numel(), seed + n, rank) for n in (0, 10))
    total = 2 * (first.up @ first.down) * (second.up @ second.down)
    first = LowRank(up=first.up, down=first.down, scale=2.0)
    return Example(Hadamard(first=first, second=second, scale=0.5), weight + 0.5 * total.reshape(weight.shape))


def build_dense_loha(layer: nn.Module, seed: int) -> Example:
    return build_loha(layer, seed, rank=5)


def build_tucker_loha(layer: nn.Module, seed: int) -> Example:
    first, second = (build_tucker(layer, seed + n).change for n in (0, 10))
    total = multiply_core(first.up, first.core, first.down) * multiply_core(second.up, second.core, second.down)
    bare = [LowRank(up=one.up, down=one.down, core=one.core) for one in (first, second)]
    return Example(Hadamard(first=bare[0], second=bare[1], scale=0.4), layer.weight + 0.4 * total.reshape(layer.weight.shape))


def build_lokr(layer: nn.Module, seed: int) -> Example:
    """Both factors whole."""
    weight = layer.weight
    left, right = draw(4, 2, seed=seed), draw(len(weight) // 4, weight[0].numel() // 2, seed=seed + 1)
    change = Kronecker(left=Full(matrix=left), right=Full(matrix=right), scale=0.6)
    return Example(change, weight + 0.6 * tile_blocks(left, right).reshape(weight.shape))


def build_product_lokr(layer: nn.Module, seed: int) -> Example:
    """Both factors products, and more columns than rows on the left."""
    weight = layer.weight
    left, right = draw_product(2, 4, seed, 1), draw_product(len(weight) // 2, weight[0].numel() // 4, seed + 5, 2)
    total = tile_blocks(left.up @ left.down, right.up @ right.down)
    return Example(Kronecker(left=left, right=right, scale=0.7), weight + 0.7 * total.reshape(weight.shape))


def build_tucker_lokr(layer: nn.Module, seed: int) -> Example:
    weight, core = layer.weight, draw(2, 2, *shape_kernel(layer), seed=seed + 2)
    left = draw(2, 2, seed=seed + 3)
    up, down = draw(len(weight) // 2, 2, seed=seed), draw(2, weight.shape[1] // 2, seed=seed + 1)
    total = tile_blocks(left, multiply_core(up, core, down).flatten(1))
    change = Kronecker(left=Full(matrix=left), right=LowRank(up=up, down=down, core=core), scale=0.8)
    return Example(change, weight + 0.8 * total.reshape(weight.shape))


def build_full(layer: nn.Module, seed: int) -> Example:
    matrix = draw(len(layer.weight), layer.weight[0].numel(), seed=seed)
    return Example(Full(matrix=matrix), layer.weight + matrix.reshape(layer.weight.shape))


def build_dora(layer: nn.Module, seed: int) -> Example:
    inner, merged = build_lora(layer, seed)
    magnitude = draw(len(merged), seed=seed + 7).abs() + 0.5
    rows = [length * row / row.square().sum().sqrt() for length, row in zip(magnitude, merged, strict=True)]
    return Example(Decomposed(difference=inner, magnitude=magnitude), torch.stack(rows))


def build_input_dora(layer: nn.Module, seed: int) -> Example:
    inner, merged = build_lokr(layer, seed)
    magnitude = draw(merged.shape[1], seed=seed + 7).abs() + 0.5
    columns = [length * merged[:, n] / merged[:, n].square().sum().sqrt() for n, length in enumerate(magnitude)]
    return Example(Decomposed(difference=inner, magnitude=magnitude, by_input=True), torch.stack(columns, dim=1))


EXAMPLES: dict[str, Callable[[nn.Module, int], Example]] = {
    "LoRA": build_lora,
    "LoRA, Tucker": build_tucker,
    "LoHa": build_loha,
    "LoHa, dense": build_dense_loha,
    "LoHa, Tucker": build_tucker_loha,
    "LoKr": build_lokr,
    "LoKr of products": build_product_lokr,
    "LoKr, Tucker": build_tucker_lokr,
    "full": build_full,
    "DoRA": build_dora,
    "DoRA by input": build_input_dora,
}
