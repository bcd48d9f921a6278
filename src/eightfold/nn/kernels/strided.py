"""Convolutions that halve height and width: as many products as ever, but from patches that never leave the cache.

With channels last the pixels under one row of a kernel lie side by side: a patch is three copies, and the convolution one of 1x1.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from . import compiled
from .geometry import Shape
from .layers import PARTS, PIXELS, PLAIN_POINTS
from .moments import join_moments
from .packed import Packed, pack_weights
from .plane import Plane, build_plane
from .pool import Pool, Scratch
from .steps import LANES

TAPS = 3


def pack_strided(weight: Tensor, bias: Tensor | None, *, lanes: int, pool: Pool, into: np.ndarray | None = None) -> Packed:
    """Weights [out, in, 3, 3] as those of a 1x1 convolution of patches of 9 * in numbers: row, column, channel."""
    return pack_weights(weight.permute(0, 2, 3, 1).reshape(len(weight), -1, 1, 1), bias, lanes=lanes, pool=pool, into=into)


def convolve_strided(packed: Packed, source: Plane, target: Plane | None = None, *, symmetric: bool, pool: Pool) -> Plane:
    """A 3x3 convolution with stride 2, by weights that `pack_strided` has packed.

    `symmetric` is a border of zeros on every side; otherwise there is one to the right and the bottom only. Writes the rows that `target`
    holds, or a new plane. Raises ValueError where the planes do not fit together.
    """
    border, channels = int(symmetric), source.channels
    height, width = ((side + border - 2) // 2 + 1 for side in (source.height, source.width))
    target = build_plane(height, width, packed.stored) if target is None else target
    found, expected = (target.height, target.width, target.channels), (height, width, packed.stored)
    if packed.points != 1 or packed.channels != TAPS * TAPS * channels or found != expected:
        raise ValueError(f"a strided layer of {packed.channels} numbers a patch makes {expected} of {channels} channels, not {found}")
    begin, end = target.rows
    source.check_rows(2 * begin - border, 2 * (end - 1) - border + TAPS)
    depth, stored, y = packed.channels, packed.stored, target.pixels.reshape(-1)
    kind = (LANES[packed.lanes], PLAIN_POINTS)
    items = [(row, column) for row in range(begin, end) for column in range(0, width, PIXELS)]
    parts = np.zeros((len(items), PARTS * stored))

    def work(scratch: Scratch, item: int) -> None:
        row, column = items[item]
        count, to = min(PIXELS, width - column), ((row - begin) * width + column) * stored
        left = scratch.take("left", PIXELS * depth)
        patches = left[: count * depth].reshape(count, TAPS, TAPS * channels)
        for tap in range(TAPS):
            fill_patches(source, patches[:, tap], 2 * row + tap - border, 2 * column - border)
        shape = Shape(1, count, depth, stored, 0, 0, depth, to, 0, stored, 0, stored // (2 * packed.lanes))
        compiled.multiply_points(left, packed.weights, packed.bias, y, shape, kind)
        compiled.finish_linear(y, None, y, parts[item], (to, to, count, stored), kind)

    pool.run(work, range(len(items)))
    target.moments = join_moments(parts.reshape(-1, PARTS, stored))
    return target


def fill_patches(source: Plane, patches: np.ndarray, row: int, column: int) -> None:
    """patches[i] are the three pixels from `column` + 2 * i on of one row of the image; zeros outside of it."""
    if not 0 <= row < source.height:
        patches[:] = 0
        return
    channels, line = source.channels, source.pixels[row - source.first_row]
    starts = column + 2 * np.arange(len(patches))
    inside = np.flatnonzero((starts >= 0) & (starts + TAPS <= source.width))
    if len(inside):
        low, high = int(inside[0]), int(inside[-1]) + 1
        view = np.lib.stride_tricks.sliding_window_view(line.reshape(-1), TAPS * channels)
        patches[low:high] = view[starts[low] * channels : starts[high - 1] * channels + 1 : 2 * channels]
    for index in {0, len(patches) - 1} - set(inside.tolist()):
        for tap in range(TAPS):
            place = starts[index] + tap
            patches[index, tap * channels : (tap + 1) * channels] = line[place] if 0 <= place < source.width else 0
