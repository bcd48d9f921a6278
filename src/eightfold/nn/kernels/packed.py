"""Weights in the order the products read them: [point][panel][channel in][2 vectors of channels out], transformed in float64."""
# pyright: basic, reportArgumentType=false, reportCallIssue=false
# numba's decorators change a function's signature in ways that the type checker cannot follow

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import no_type_check

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .cooktoom import F42, F43, F63, Matrix, Transform
from .pool import Pool, Scratch, build_buffer

GROUP = 8  # columns at a time: a number known while compiling, so that vectors are made of it
PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))  # of an enlarged image: rows and columns that are even, or odd


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A convolution's weights, ready to use.

    `points` along an axis are 6 or 8 (3x3), 5 (3x3 on repeated pixels) or 1 (1x1, linear). `stored` is the number of channels that are
    written: the layer's own `outputs` and zeros up to whole panels.
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
def pack_panel(kernels, rows, columns, target, place):
    """rows @ kernel @ columns.T in float64 for each pair of channels of a panel.

    kernels[channel][tap][column], nine taps; place = (panel, panels of a point).
    """
    panel, panels = place
    channels, _, wide = kernels.shape
    points = len(rows)
    half = np.empty((points, 3, GROUP))
    for channel in range(channels):
        for begin in range(0, wide, GROUP):
            for i in range(points):
                first, second, third = rows[i, 0], rows[i, 1], rows[i, 2]
                for k in range(3):
                    for one in range(GROUP):
                        upper, middle = float(kernels[channel, k, begin + one]), float(kernels[channel, 3 + k, begin + one])
                        half[i, k, one] = first * upper + second * middle + third * float(kernels[channel, 6 + k, begin + one])
            for i in range(points):
                for j in range(points):
                    first, second, third = columns[j, 0], columns[j, 1], columns[j, 2]
                    at = (((i * points + j) * panels + panel) * channels + channel) * wide + begin
                    for one in range(GROUP):
                        target[at + one] = half[i, 0, one] * first + half[i, 1, one] * second + half[i, 2, one] * third


def fold_taps(transform: Transform, taps: Sequence[Sequence[int]]) -> Matrix:
    """The transform of a kernel's row (or column) of three taps, after `taps` [r, 3] have made r of them: [points, 3], exact."""
    columns = list(zip(*taps, strict=True))
    return tuple(tuple(sum((a * b for a, b in zip(row, tap, strict=True)), Fraction(0)) for tap in columns) for row in transform.kernel)


def to_matrix(transform: Transform, taps: Sequence[Sequence[int]]) -> np.ndarray:
    """`fold_taps` in float64."""
    return np.array([[float(entry) for entry in row] for row in fold_taps(transform, taps)])


# Between pixels that are all repeated twice, three taps along an axis amount to two. An even row of the enlarged image sees the row above
# once and its own twice; an odd one its own twice and the row below once.
EVEN, ODD, THREE = ((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)), ((1, 0, 0), (0, 1, 0), (0, 0, 1))
PLAIN = {one.inputs: to_matrix(one, THREE) for one in (F43, F63)}
HALVES = (to_matrix(F42, EVEN), to_matrix(F42, ODD))


def to_numbers(weight: np.ndarray | Tensor) -> np.ndarray:
    """As numpy has it, without a copy where it can be; bfloat16, which numpy does not know, as the upper halves of float32 (uint16)."""
    if not isinstance(weight, Tensor):
        return weight
    if weight.dtype == torch.bfloat16:
        return weight.detach().view(torch.int16).numpy().view(np.uint16)
    return weight.detach().numpy()


def cut_panel(weight: np.ndarray, panel: int, wide: int) -> np.ndarray:
    """The kernels of a panel of channels out, float32 [channels in, taps, wide], with zeros for channels out that are not there."""
    part = weight[panel * wide : (panel + 1) * wide]
    if part.dtype == np.uint16:
        part = (part.astype(np.uint32) << 16).view(np.float32)
    count, channels = part.shape[:2]
    kernels = np.zeros((channels, part[0, 0].size, wide), np.float32)
    kernels[..., :count] = part.reshape(count, channels, -1).transpose(1, 2, 0)
    return kernels


def count_numbers(channels: int, outputs: int, lanes: int, *, kernel: int = 3, enlarge: bool = False, points: int = F43.inputs) -> int:
    """Float32 numbers that packed weights take."""
    points = F42.inputs if enlarge else points if kernel == 3 else 1
    return points**2 * channels * fill_panels(outputs, lanes) * (4 if enlarge else 1)


def fill_panels(outputs: int, lanes: int) -> int:
    """Channels out, and zeros up to whole panels."""
    return -(-outputs // (2 * lanes)) * 2 * lanes


def pack_weights(
    weight: np.ndarray | Tensor,
    bias: np.ndarray | Tensor | None,
    *,
    lanes: int,
    pool: Pool,
    enlarge: bool = False,
    points: int = F43.inputs,
    into: np.ndarray | None = None,
) -> Packed:
    """Weights [out, in, 3, 3] or [out, in, 1, 1] of any float type; with `enlarge` those of a 3x3 convolution behind a nearest 2x
    enlargement.

    `points` are 6 or 8 (see `geometry.choose_points`) and matter for 3x3 kernels without `enlarge` alone. Takes 4 times the memory of
    float32 ones (7 times with 8 points, 11 with `enlarge`) and next to nothing beside; `into` is a buffer to use for it where it is large
    enough, such as the `weights` of a layer that has run already. Raises ValueError for other kernels, other points, and for channels that
    `lanes` does not divide.
    """
    outputs, channels, *sides = weight.shape
    fits = (sides == [3, 3] and (enlarge or points in PLAIN)) or (sides == [1, 1] and not enlarge)
    if not fits or not lanes or channels % lanes:
        raise ValueError(
            f"kernels of {sides} on {channels} channels (enlarge: {enlarge}) have no fast way with {points} points and vectors of {lanes}"
        )
    size = count_numbers(channels, outputs, lanes, kernel=sides[0], enlarge=enlarge, points=points)
    target = build_buffer(size) if into is None or into.size < size else into
    stored, wide, numbers = fill_panels(outputs, lanes), 2 * lanes, to_numbers(weight)
    panels = stored // wide
    phases = [(HALVES[row], HALVES[column]) for row, column in PHASES] if enlarge else [(PLAIN[points],) * 2] if sides == [3, 3] else []

    def work(_scratch: Scratch, panel: int) -> None:
        kernels = cut_panel(numbers, panel, wide)
        if sides == [1, 1]:
            target[panel * kernels.size : (panel + 1) * kernels.size] = kernels.ravel()
            return
        for phase, (rows, columns) in enumerate(phases):
            pack_panel(kernels, rows, columns, target, (phase * panels + panel, len(phases) * panels))

    pool.run(work, range(panels))
    zeros = np.zeros(outputs, np.float32) if bias is None else to_numbers(bias).astype(np.float32)
    return Packed(
        weights=target,
        bias=np.concatenate([zeros, np.zeros(stored - outputs, np.float32)]),
        channels=channels,
        outputs=outputs,
        stored=stored,
        points=F42.inputs if enlarge else points if sides == [3, 3] else 1,
        lanes=lanes,
    )
