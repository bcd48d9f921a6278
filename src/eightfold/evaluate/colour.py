"""Which colour does a picture show? A rule, not a network: the mean hue of the saturated pixels, and the named colour nearest to it."""

from __future__ import annotations

import colorsys
import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.solids import COLOURS

SATURATED = 0.35  # least chroma (largest minus smallest of r, g, b, in 0..1) of a coloured pixel; the ground has less
ENOUGH = 0.01  # share of the picture that must be coloured


def name_colour(image: Float[Tensor, "1 3 h w"]) -> str | None:
    """The colour of the one object in `image` ([-1, 1]), or None where there is hardly anything coloured.

    Hues are averaged as unit vectors weighted by chroma, so that red, at both ends of the scale, has a mean too.
    """
    red, green, blue = ((image[0].double().clamp(-1, 1) + 1) / 2).unbind(0)
    chroma = torch.stack([red, green, blue]).amax(0) - torch.stack([red, green, blue]).amin(0)
    chroma = chroma * (chroma > SATURATED)
    if (chroma > 0).double().mean() < ENOUGH:
        return None
    angle = torch.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue)  # the hue, by its angle in the colour plane
    mean = math.atan2((chroma * angle.sin()).sum().item(), (chroma * angle.cos()).sum().item())
    return min(COLOURS, key=lambda name: distance(mean, to_hue(COLOURS[name])))


def to_hue(colour: tuple[float, float, float]) -> float:
    return 2 * math.pi * colorsys.rgb_to_hsv(*colour)[0]


def distance(one: float, other: float) -> float:
    return abs(math.remainder(one - other, 2 * math.pi))
