"""Error maps in colour: dark where nothing is wrong, over violet and red to pale yellow where all is."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# At equal distances from 0 to 1; lightness (L* of CIELAB) rises by the same amount from each to the next, 2 to 94
HEAT = (
    (8, 6, 18),
    (40, 27, 66),
    (88, 35, 111),
    (154, 34, 114),
    (211, 47, 102),
    (239, 96, 88),
    (254, 146, 82),
    (255, 194, 114),
    (255, 237, 164),
)


def to_heat(errors: Float[Tensor, "h w"]) -> Float[Tensor, "1 3 h w"]:
    """Values in 0..1, clamped, to an image in [-1, 1]."""
    anchors = torch.tensor(HEAT, dtype=torch.float32) / 127.5 - 1
    place = errors.float().cpu().clamp(0, 1) * (len(HEAT) - 1)
    below = place.floor().long().clamp(max=len(HEAT) - 2)
    share = (place - below).unsqueeze(-1)
    colours = anchors[below] * (1 - share) + anchors[below + 1] * share
    return colours.permute(2, 0, 1).unsqueeze(0)


def build_scale(width: int, height: int) -> Float[Tensor, "1 3 h w"]:
    """The colours from 0 at the left to 1 at the right."""
    return to_heat(torch.linspace(0, 1, width).expand(height, width))
