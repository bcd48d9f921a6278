"""Two numbers a tensor, by which the same weights are known again after they were rounded to another dtype."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from math import isfinite

import torch
from torch import Tensor

CLOSE = 0.01  # of the norm; float16 and bfloat16 stay within it, a training of some steps does not

Sketch = Mapping[str, tuple[float, float]]


def draw_sketch(tensors: Mapping[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Of each tensor of fractions its norm, and its product with random signs, which its name and size alone decide."""
    sketch: dict[str, tuple[float, float]] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            values = tensor.detach().cpu().flatten().double()
            generator = torch.Generator().manual_seed(int.from_bytes(sha256(name.encode()).digest()[:6], "little"))
            signs = torch.randint(0, 2, (values.numel(),), generator=generator, dtype=torch.int8).double() * 2 - 1
            sketch[name] = (values.norm().item(), (values @ signs).item())
    return sketch


def is_kin(first: Sketch, second: Sketch) -> bool:
    """Whether both sketches are of the same weights: the same names, every norm and every product within 1 % of the norm."""
    if not first or first.keys() != second.keys():
        return False
    pairs = ((first[name], second[name]) for name in first)
    return all(
        isfinite(a[0]) and abs(a[0] - b[0]) <= CLOSE * max(a[0], 1e-12) and abs(a[1] - b[1]) <= CLOSE * max(a[0], 1e-12) for a, b in pairs
    )
