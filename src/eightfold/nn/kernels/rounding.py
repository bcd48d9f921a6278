"""How far the fast way may be from the exact result, and whether a layer should rather be run directly.

The transforms add and subtract the pixels of a tile with factors up to 5.25 before anything is multiplied, so that rounding errors grow
with the largest numbers in a tile and reach all of its results: one outlier of 1000 disturbs 15 or 35 neighbours that never saw it. How
much depends on the weights, and is measured once on a few tiles (`measure_gain`). How large the input gets follows from the moments that
it came with, without a pass over its pixels (`to_reach`). Both together bound the error. What is allowed is a part of the spread of the
layer's own results:

    should_run_directly(gain, to_reach(moments, before, channels), ALLOWED * predict_spread(gain, moments, before))
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .before import Before
from .cooktoom import F42, F43, F63
from .geometry import to_side
from .layers import convolve
from .moments import Moments, quiet
from .packed import Packed, pack_weights
from .plane import from_plane, to_planes
from .pool import Pool

# Chosen, not derived: other numbers round another way than the few tiles that are measured. On flat pictures that a kernel sums up
# to more than the probes, twice as much was seen at most. Dense inputs are covered five times over already: that much lies between the
# norm of a pixel and its bound by the peaks of all channels.
SAFETY = 3.0
# Of the spread of a layer's results, anywhere. Noise and decoders with random weights have bounds below a third of it (and errors of
# about 2e-5); an outlier of 1e4 spreads in one number, which really makes errors of about 5e-3, has one far above.
ALLOWED = 5e-3
OUTLIER = 1000.0
PROBED = 512  # tiles' results of one place that are compared: of 32 channels out, or 14 in large tiles, those with the largest weights
RARE = 4096  # one pixel in so many may be an outlier without being counted into the spread
BANDS = {"dense": 2, "pixel": 3, "number": 3, "aligned": 2}  # rows of the probe from the top, in tiles
WIDTH = 3  # of the probe, in tiles
# Row and column of a tile where an outlier was measured to do most harm.
WORST = {F63.inputs: (2, 2), F43.inputs: (1, 2), F42.inputs: (1, 1)}
FOLDS = np.array([[[1, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]], float)  # taps of even and odd places, see `packed`
AFTER_SILU, AFTER_RELU = 0.6, 0.7  # root mean square of N(0, 1) after them


@dataclass(frozen=True, kw_only=True)
class Gain:
    """How much a layer's error grows with its input: for each unit of the largest norm of a pixel, and of the largest number.

    `spread` is how much its results do: for each unit of its input's root mean square, where that is noise.
    """

    norm: float
    peak: float
    spread: float


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How large a layer's input gets, after what comes before it: bounds of the norm of a pixel over its channels, and of a number."""

    norm: float
    peak: float


def draw_probe(weight: Float[Tensor, "o i 3 3"], points: int, generator: torch.Generator) -> Float[Tensor, "1 i h w"]:
    """An input in bands: noise; noise with a pixel that is far off; noise with a number that is, in the channel with the largest weights;
    and all pixels alike, with the signs that the first kernel adds up.

    The outliers lie where no tile that reads one reads another band.
    """
    channels, side = weight.shape[1], to_side(points)
    probe = torch.randn(1, channels, side * sum(BANDS.values()), side * WIDTH, generator=generator)
    row, column = side * (BANDS["dense"] + 1) + WORST[points][0], side + WORST[points][1]
    probe[:, :, row, column] *= OUTLIER
    loudest = int(weight.square().sum(dim=(0, 2, 3)).argmax())
    probe[:, loudest, row + side * BANDS["pixel"], column] = OUTLIER
    probe[:, :, -side * BANDS["aligned"] :] = weight[0].sum(dim=(1, 2)).sign().view(1, -1, 1, 1)
    return probe


def convolve_exactly(probe: Float[Tensor, "1 i h w"], weight: Float[Tensor, "o i 3 3"], enlarge: bool) -> Float[Tensor, "1 o y x"]:
    """In float64. An enlarged result comes from the small input, four times as many kernels, and its pixels put between each other."""
    exact = weight.double()
    if enlarge:
        folds = torch.from_numpy(FOLDS)
        exact = torch.einsum("arj,bsk,oijk->oabirs", folds, folds, exact).flatten(0, 2)
    found = correlate(F.pad(probe.double(), (1, 1, 1, 2)), exact)
    return F.pixel_shuffle(found, 2) if enlarge else found


def correlate(padded: Float[Tensor, "1 i y x"], weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "1 o h w"]:
    """A 3x3 convolution as nine products of matrices on pixels as they lie: torch's own of float64 copies each of them nine times.

    There is a row more below than is read: the last pixels of a row are multiplied with what begins the next.
    """
    channels, height, width = padded.shape[1:]
    pixels, size = padded.reshape(channels, -1), (height - 3) * width
    taps = [(row, column) for row in range(3) for column in range(3)]
    parts = [weight[:, :, row, column] @ pixels[:, row * width + column :][:, :size] for row, column in taps]
    return torch.stack(parts).sum(dim=0).view(1, -1, height - 3, width)[..., : width - 2]


def to_norms(values: Float[Tensor, "1 c h w"], points: int) -> Float[Tensor, "1 1 rows columns"]:
    """The norm of what each tile reads: points x points pixels, all channels."""
    squares, side = values.double().square().sum(dim=1, keepdim=True), to_side(points)
    height, width = squares.shape[-2:]
    padded = F.pad(squares, (1, side + points - width % side, 1, side + points - height % side))
    return F.avg_pool2d(padded, points, stride=side, divisor_override=1).sqrt()


def spread_norms(probe: Float[Tensor, "1 c h w"], points: int, scale: int) -> Float[Tensor, "1 y x"]:
    """For each result, `scale` times as many as pixels each way, the largest norm of the tiles it may come from."""
    norms = to_norms(probe, points)
    around = F.max_pool2d(norms, 3, stride=1, padding=1)  # an odd row of an enlarged image belongs to the tile behind it
    size = [scale * side for side in probe.shape[-2:]]
    times = scale * to_side(points)
    return around.repeat_interleave(times, -1).repeat_interleave(times, -2)[:, 0, : size[0], : size[1]]


@torch.no_grad()
def measure_gain(packed: Packed, weight: Float[Tensor, "o i 3 3"], *, pool: Pool, seed: int = 0) -> Gain:
    """SAFETY times the largest that is found on a few tiles, for the channels out with the largest weights. `weight` is what was packed.

    Takes less time than packing. It depends on nothing but the weights: measured once it holds whenever they are packed again.
    """
    enlarge, weight = packed.phases == 4, weight.detach()
    scale, side = 2 if enlarge else 1, to_side(packed.points)
    squares = torch.linalg.vector_norm(weight, dim=(1, 2, 3), dtype=torch.float32).square()
    loudest = weight[squares.topk(min(PROBED // side**2 // scale, len(squares))).indices].float()
    probe = draw_probe(loudest, packed.points, torch.Generator().manual_seed(seed))
    few = pack_weights(loudest, None, lanes=packed.lanes, pool=pool, enlarge=enlarge, points=packed.points)
    fast = from_plane(convolve(few, to_planes(probe)[0], pool=pool), few.outputs)
    errors = (fast - convolve_exactly(probe, loudest, enlarge)).abs().amax(dim=1)
    relative = (errors / spread_norms(probe, packed.points, scale)).split([scale * side * rows for rows in BANDS.values()], dim=1)
    found = {name: float(band.max()) for name, band in zip(BANDS, relative, strict=True)}
    number = errors.split([scale * side * rows for rows in BANDS.values()], dim=1)[list(BANDS).index("number")]
    return Gain(
        norm=SAFETY * packed.points * max(found["dense"], found["pixel"], found["aligned"]),
        peak=SAFETY * float(number.max()) / OUTLIER,
        spread=float(squares.mean().sqrt()),
    )


def get_peak(moments: Moments) -> np.ndarray:
    """The bound of the distances from the mean; where none was gathered one that always holds, and is far too large for many pixels."""
    return np.sqrt(moments.squares) if moments.peak is None else moments.peak


@quiet()
def to_reach(moments: Moments, before: Before | None, channels: int) -> Reach:
    """Bounds for the first `channels` channels of an input with these moments, after what comes `before` the layer.

    An activation is taken to change nothing: SiLU and ReLU make no number larger. Channel norm gives each pixel the length sqrt(c).
    """
    if before is not None and before.gamma is not None:
        largest = sqrt(channels) * float(np.abs(before.gamma).max())
        finite = np.isfinite(moments.mean).all() and np.isfinite(moments.squares).all()
        return Reach(norm=largest, peak=largest) if finite else Reach(norm=np.inf, peak=np.inf)
    mean, peak = moments.mean[:channels], get_peak(moments)[:channels]
    if before is not None and before.affine is not None:
        centre, scale, offset = before.affine.astype(np.float64).reshape(3, -1)
        bounds = np.abs((mean - centre) * scale + offset) + np.abs(scale) * peak
    else:
        bounds = np.abs(mean) + peak
    return Reach(norm=float(np.sqrt(np.square(bounds).sum())), peak=float(bounds.max()))


@quiet()
def predict_spread(gain: Gain, moments: Moments, before: Before | None) -> float:
    """About the root mean square of a layer's results, without its bias, for an input with these moments.

    The largest numbers of each channel are left out, one in RARE (or one), each as the bound of the largest: what is left is a lower bound
    for the others. So an outlier does not raise what is allowed.
    """
    if before is not None and before.gamma is not None:
        level = sqrt(float(np.square(before.gamma.astype(np.float64)).mean()))
    else:
        mean, peak, squares = moments.mean, get_peak(moments), moments.squares
        if before is not None and before.affine is not None:
            centre, scale, offset = before.affine.astype(np.float64).reshape(3, -1)
            mean, peak, squares = (mean - centre) * scale + offset, np.abs(scale) * peak, np.square(scale) * squares
        few = max(1, moments.count // RARE)
        others = squares + moments.count * np.square(mean) - few * np.square(np.abs(mean) + peak)
        level = sqrt(float(np.maximum(others, 0).mean()) / moments.count)
    factor = 1.0 if before is None else AFTER_SILU if before.silu else AFTER_RELU if before.relu else 1.0
    return gain.spread * factor * level


def bound_error(gain: Gain, reach: Reach) -> float:
    """The largest error expected of a layer's results, in their own unit."""
    return gain.norm * reach.norm + gain.peak * reach.peak


def should_run_directly(gain: Gain, reach: Reach, allowed: float) -> bool:
    """Whether the fast way may be further off than `allowed`. What is not finite is never trusted to it.

    `allowed` is in the unit of the layer's results: ALLOWED times their spread, as `predict_spread` gives it.
    """
    return not bound_error(gain, reach) <= allowed
