"""Positions in time and space as vectors."""

from __future__ import annotations

from math import log

import torch
from jaxtyping import Float
from torch import Tensor


def to_sinusoid(values: Float[Tensor, " b"], width: int, *, longest: float = 10_000.0) -> Float[Tensor, "b width"]:
    """Values [b] as `width` cosines and sines, cosines first, wavelengths from 2 pi to `longest` * 2 pi (arXiv 1706.03762, section 3.5)."""
    half = width // 2
    frequencies = torch.exp(-torch.arange(half, device=values.device, dtype=torch.float32) / half * log(longest))
    angles = values[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
