"""Weights in the order the products read them: [point][panel][channel in][2 vectors of channels out], transformed in float64."""
# pyright: basic, reportArgumentType=false, reportCallIssue=false
# numba's decorators change a function's signature in ways that the type checker cannot follow

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from numba import njit

from .cooktoom import F42, F43
from .pool import Pool, Scratch, build_buffer

IDENTITY = np.ones((1, 1))
PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))  # of an enlarged image: rows and columns that are even, or odd


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A convolution's weights, ready to use.

    `points` along an axis are 6 (3x3), 5 (3x3 on repeated pixels) or 1 (1x1, linear). `stored` is the number of channels that are written:
    the layer's own `outputs` and zeros up to whole panels.
    """

    weights: np.ndarray
    bias: np.ndarray
    channels: int
    outputs: int
    stored: int
    points: int
    lanes: int

    @property
    def phases(self) -> int:
        return 4 if self.points == F42.inputs else 1


def choose_lanes(channels: int, outputs: int, widest: int) -> int:
    """The vector for a layer: the CPU's widest, or 8 where that is too wide for the layer; 0 where the channels in are no multiple of it.

    Few channels out get narrow vectors rather than more zeros. No others are used, so that few versions of the kernels have to be compiled.
    """
    for lanes in (widest, min(8, widest)):
        if channels % lanes == 0 and (lanes <= 8 or outputs % (2 * lanes) == 0):
            return lanes
    return 0


@njit(nogil=True, cache=True)
@no_type_check
def pack_panel(weight, matrix, target, panel, sizes):
    """One panel: matrix @ kernel @ matrix.T for each pair of channels. sizes = (channels in, channels out, panels, width of a panel)."""
    channels, outputs, panels, wide = sizes
    points, taps = matrix.shape
    kernels = np.zeros((taps, taps, wide))
    half = np.zeros((points, taps, wide))
    total = np.zeros(wide)
    for channel in range(channels):
        for column in range(min(wide, outputs - panel * wide)):
            for j in range(taps):
                for k in range(taps):
                    kernels[j, k, column] = weight[panel * wide + column, channel, j, k]
        for i in range(points):
            for k in range(taps):
                half[i, k] = 0.0
                for j in range(taps):
                    for column in range(wide):
                        half[i, k, column] += matrix[i, j] * kernels[j, k, column]
        for i in range(points):
            for j in range(points):
                total[:] = 0.0
                for k in range(taps):
                    for column in range(wide):
                        total[column] += half[i, k, column] * matrix[j, k]
                at = (((i * points + j) * panels + panel) * channels + channel) * wide
                for column in range(wide):
                    target[at + column] = total[column]


def pack(weight: np.ndarray, matrix: np.ndarray, outputs: int, lanes: int, pool: Pool, into: np.ndarray | None) -> np.ndarray:
    """A weight [out, in, r, r] under matrix [n, r], filled up with zeros to `outputs` channels out."""
    wide = 2 * lanes
    channels, panels = weight.shape[1], outputs // wide
    size = len(matrix) ** 2 * channels * outputs
    target = build_buffer(size) if into is None or into.size < size else into
    sizes = (channels, len(weight), panels, wide)

    def work(_scratch: Scratch, panel: int) -> None:
        pack_panel(weight, matrix, target, panel, sizes)

    pool.run(work, range(panels))
    return target


def split_phases(weight: np.ndarray) -> np.ndarray:
    """The four 2x2 kernels that a 3x3 kernel [out, in, 3, 3] amounts to between pixels that are all repeated twice: [4, out, in, 2, 2].

    An even row of the enlarged image sees the row above once and its own twice; an odd one its own twice and the row below once.
    """
    return np.stack([fold_taps(fold_taps(weight, 2, bool(row)), 3, bool(column)) for row, column in PHASES])


def fold_taps(weight: np.ndarray, axis: int, odd: bool) -> np.ndarray:
    """Three taps along an axis become two: the last two of them see the same pixel, or in odd places the first two."""
    first, middle, last = np.moveaxis(weight, axis, 0)
    return np.stack([first + middle, last] if odd else [first, middle + last], axis)


def fill_up(values: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([values, np.zeros((size - len(values), *values.shape[1:]), values.dtype)])


def pack_weights(
    weight: np.ndarray, bias: np.ndarray | None, *, lanes: int, pool: Pool, enlarge: bool = False, into: np.ndarray | None = None
) -> Packed:
    """Float32 weights [out, in, 3, 3], or [out, in, 1, 1]; with `enlarge` those of a 3x3 convolution behind a nearest 2x enlargement.

    Takes 4 times their memory (11 times with `enlarge`); `into` is a buffer to use for it where it is large enough, such as the `weights`
    of a layer that has run already. Raises ValueError for other kernels, and for channels that `lanes` does not divide.
    """
    outputs, channels, *sides = weight.shape
    if sides not in ([3, 3], [1, 1]) or (enlarge and sides == [1, 1]) or not lanes or channels % lanes:
        raise ValueError(f"kernels of {sides} on {channels} channels (enlarge: {enlarge}) have no fast way with vectors of {lanes}")
    stored = -(-outputs // (2 * lanes)) * 2 * lanes
    exact = np.ascontiguousarray(weight, np.float64)
    if enlarge:
        exact = np.concatenate([fill_up(phase, stored) for phase in split_phases(exact)])
    transform = F42 if enlarge else F43
    matrix = IDENTITY if sides == [1, 1] else np.array([[float(entry) for entry in row] for row in transform.kernel])
    zeros = np.zeros(outputs, np.float32) if bias is None else np.asarray(bias, np.float32)
    return Packed(
        weights=pack(exact, matrix, stored * (4 if enlarge else 1), lanes, pool, into),
        bias=fill_up(zeros, stored),
        channels=channels,
        outputs=outputs,
        stored=stored,
        points=len(matrix),
        lanes=lanes,
    )
