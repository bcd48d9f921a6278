"""Count, mean, squared and largest distances of the channels of a feature map, gathered block by block, and the group normalisation made
of them.

A sum of squares loses everything where a channel's mean is far above its spread; distances from the mean do not. Parts are joined as in
Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979), in float64 and in the order of
the blocks, so that the result does not depend on which thread did what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

quiet = partial(np.errstate, invalid="ignore", over="ignore")  # what is not finite goes on into the results, where it is seen
ROUNDED = 1 + 1e-4  # sums of squares made in float32 may be less than they should be
PARTS = 4  # numbers that are kept of a channel: count, mean, squares, peak


@dataclass(frozen=True, kw_only=True)
class Moments:
    """`count` pixels; of each of c channels the mean, the sum of squared distances from it, and a bound of the largest of these distances
    (`peak`; None where it is not known). All float64 [c].
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray
    peak: np.ndarray | None = None


@quiet()
def join_moments(parts: np.ndarray) -> Moments:
    """One from many: float64 [parts, PARTS, c] of counts, means, squares and peaks, where every channel has the same count in all."""
    counts, means, squares, peaks = (parts[:, index] for index in range(PARTS))
    total = counts.sum(axis=0)
    mean = (counts * means).sum(axis=0) / total
    apart = means - mean
    joined = (squares + counts * apart**2).sum(axis=0)
    peak = np.where(counts > 0, peaks + np.abs(apart), 0).max(axis=0)
    peak = np.minimum(peak, ROUNDED * np.sqrt(joined) + (ROUNDED - 1) * np.abs(mean))  # none is further off than all of them together
    return Moments(count=int(total.max()), mean=mean, squares=joined, peak=peak)


def add_moments(*parts: Moments) -> Moments:
    """Of strips of one image: the moments of the whole."""
    rows = [[np.full(len(part.mean), float(part.count)), part.mean, part.squares, fill_peak(part)] for part in parts]
    found = join_moments(np.array(rows))
    return found if all(part.peak is not None for part in parts) else replace(found, peak=None)


def fill_peak(moments: Moments) -> np.ndarray:
    return np.zeros_like(moments.mean) if moments.peak is None else moments.peak


@quiet()
def measure_moments(pixels: np.ndarray) -> Moments:
    """Of a buffer [..., c] that no kernel of ours has written."""
    flat = pixels.reshape(-1, pixels.shape[-1])
    step = max(1, (1 << 18) // flat.shape[1])  # about a megabyte at a time
    parts = []
    for begin in range(0, len(flat), step):
        part = flat[begin : begin + step]
        mean = part.mean(axis=0, dtype=np.float64)
        away = part - mean.astype(np.float32)
        offset = mean - mean.astype(np.float32)
        squares = np.square(away, dtype=np.float64).sum(axis=0) - len(part) * offset**2
        peak = np.maximum(away.max(axis=0), -away.min(axis=0)) + np.abs(offset)
        parts.append([np.full(flat.shape[1], float(len(part))), mean, np.maximum(squares, 0), peak])
    return join_moments(np.array(parts))


@quiet()
def to_affine(moments: Moments, groups: int, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """Group normalisation (arXiv 1803.08494) as (x - centre) * scale + offset: float32 [3 * c], the three one after the other.

    The centre is taken off first, rather than folded into the offset, for the sake of groups whose mean is far above their spread.
    """
    means = moments.mean.reshape(groups, -1)
    mean = means.mean(axis=1, keepdims=True)
    variance = (moments.squares.reshape(groups, -1) / moments.count + (means - mean) ** 2).mean(axis=1, keepdims=True)
    scale = (weight.reshape(groups, -1) / np.sqrt(variance + eps)).ravel()
    exact = np.broadcast_to(mean, means.shape).ravel()
    centre = exact.astype(np.float32)
    return np.concatenate([centre, scale.astype(np.float32), (bias - (exact - centre) * scale).astype(np.float32)])
