"""How far the fast way may be from the exact result, and whether a layer should rather be run directly.

The transforms add and subtract the pixels of a tile with factors up to 5 before anything is multiplied, so that rounding errors grow with
the largest numbers in a tile and reach all of its results: one outlier of 1000 disturbs 15 neighbours that never saw it. How much depends
on the weights, and is measured on three kinds of tiles: dense ones, ones where one pixel is far off in all channels, and ones where one
number is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .before import Before
from .direct import activate_directly, convolve_directly
from .geometry import SIDE
from .layers import convolve
from .packed import Packed
from .plane import Plane, from_plane, to_planes
from .pool import Pool

SAFETY = 4.0  # chosen, not derived: other numbers round another way than the few tiles that are measured
TILES = 6  # along each side of what is measured
OUTLIER = 1000.0


@dataclass(frozen=True, kw_only=True)
class Gain:
    """How much a layer's error grows with its input: for each unit of a tile's norm, and for each unit of the largest number."""

    norm: float
    peak: float


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How large a layer's input gets, after its activation: the largest norm of what a tile reads, and the largest number."""

    norm: float
    peak: float


def to_norms(values: Float[Tensor, "1 c h w"], points: int) -> Float[Tensor, "1 1 rows columns"]:
    """The norm of what each tile reads: points x points pixels, all channels."""
    squares = values.double().square().sum(dim=1, keepdim=True)
    height, width = squares.shape[-2:]
    padded = F.pad(squares, (1, SIDE + points - width % SIDE, 1, SIDE + points - height % SIDE))
    return F.avg_pool2d(padded, points, stride=SIDE, divisor_override=1).sqrt()


def draw_probes(channels: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A dense input, and two with outliers, one to every second tile each way: a number, a whole pixel."""
    size, distance = TILES * SIDE, 2 * SIDE
    dense = torch.randn(1, channels, size, size, generator=generator)
    number, pixel = torch.randn(2, 1, channels, size, size, generator=generator)
    for top in range(0, size, distance):
        for left in range(0, size, distance):
            row, column, other_row, other_column = (int(place) for place in torch.randint(distance, (4,), generator=generator))
            number[0, int(torch.randint(channels, (), generator=generator)), top + row, left + column] = OUTLIER
            pixel[0, :, top + other_row, left + other_column] *= OUTLIER
    return {"dense": dense, "pixel": pixel, "number": number}


@torch.no_grad()
def measure_gain(packed: Packed, weight: Float[Tensor, "o i 3 3"], *, pool: Pool, seed: int = 0) -> Gain:
    """SAFETY times the largest that is found. `weight` is what was packed; takes as long as a direct convolution of 24 x 24 pixels in
    float64.
    """
    found = {}
    bias = torch.from_numpy(packed.bias[: packed.outputs]).view(1, -1, 1, 1)
    for name, probe in draw_probes(packed.channels, torch.Generator().manual_seed(seed)).items():
        plane = to_planes(probe)[0]
        fast = from_plane(convolve(packed, plane, pool=pool), packed.outputs)
        exact = from_plane(convolve_directly(weight.double(), None, plane, enlarge=packed.phases == 4))
        errors = (fast - bias - exact).abs().amax(dim=1)
        found[name] = float((errors / (OUTLIER if name == "number" else spread_norms(probe, packed.points, errors.shape[-1]))).max())
    return Gain(norm=SAFETY * max(found["dense"], found["pixel"]), peak=SAFETY * found["number"])


def spread_norms(probe: Tensor, points: int, size: int) -> Tensor:
    """For each of size x size results the largest norm of the tiles it may come from."""
    norms = to_norms(probe, points)
    around = F.max_pool2d(norms, 3, stride=1, padding=1)  # an odd row of an enlarged image belongs to the tile behind it
    scale = SIDE * size // probe.shape[-1]
    return around.repeat_interleave(scale, -1).repeat_interleave(scale, -2)[:, 0, :size, :size]


@torch.no_grad()
def measure_reach(source: Plane, before: Before | None, points: int) -> Reach:
    """Of a layer's input and what normalises it. One pass over memory."""
    values = activate_directly(from_plane(source), before)
    return Reach(norm=float(to_norms(values, points).max()), peak=float(values.abs().max()))


def bound_error(gain: Gain, reach: Reach) -> float:
    """The largest error expected of a layer's results, in their own unit."""
    return gain.norm * reach.norm + gain.peak * reach.peak


def should_run_directly(gain: Gain, reach: Reach, allowed: float) -> bool:
    """Whether the fast way may be further off than `allowed`. What is not finite is never trusted to it."""
    return not bound_error(gain, reach) <= allowed
