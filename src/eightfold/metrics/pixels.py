"""How near two pictures are, pixel by pixel. Images in [-1, 1] are rounded to 8 bits first, as their files would hold them."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from ..codec.pixels import to_bytes

WINDOW, SIGMA = 11, 1.5
PEAK = 255.0
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


def psnr(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite where the pictures are equal."""
    first, second = to_levels(a, b)
    error = (first - second).square().mean().item()
    return 10 * math.log10(PEAK**2 / error) if error else math.inf


def ssim(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> float:
    """Structural similarity, at most 1: the mean over channels and over every place where the whole window lies in the picture.

    Gaussian weights, sigma 1.5, 11x11 (Wang et al. 2004, equations 13-16). Along a side shorter than 11 the window is the
    longest odd one that fits.
    """
    first, second = to_levels(a, b)
    channels = [compare(first[:, [channel]], second[:, [channel]]) for channel in range(first.shape[1])]  # one by one: memory
    return sum(channels) / len(channels)


def shift_channels(a: Float[Tensor, "1 c h w"], b: Float[Tensor, "1 c h w"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What became of brightness and contrast from `a` to `b`, a figure a channel.

    First the mean of b less the mean of a, in levels of 255. Then the standard deviation of b over that of a: below 1 where b is
    flatter, 1 where neither varies, infinite where b alone does.
    """
    first, second = (levels.flatten(2)[0] for levels in to_levels(a, b))
    means = (second.mean(dim=1) - first.mean(dim=1)).tolist()
    spreads = zip(first.std(dim=1, correction=0).tolist(), second.std(dim=1, correction=0).tolist(), strict=True)
    return tuple(means), tuple(after / before if before else math.inf if after else 1.0 for before, after in spreads)


def compare(first: Tensor, second: Tensor) -> float:
    mean_a, mean_b = blur(first), blur(second)
    var_a, var_b = blur(first.square()) - mean_a.square(), blur(second.square()) - mean_b.square()
    covariance = blur(first * second) - mean_a * mean_b
    top = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    bottom = (mean_a.square() + mean_b.square() + C1) * (var_a + var_b + C2)
    return (top / bottom).mean().item()


def to_levels(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape:
        raise ValueError(f"the pictures differ in shape: {list(a.shape)} and {list(b.shape)}")
    return to_bytes(a).cpu().double(), to_bytes(b).cpu().double()


def blur(values: Tensor) -> Tensor:
    """The Gaussian window down and across, where it lies inside. As shifted sums: torch's float64 convolution would copy it 11 times."""
    for axis in (-2, -1):
        weights = build_window(values.shape[axis])
        length = values.shape[axis] - len(weights) + 1
        total = values.narrow(axis, 0, length) * weights[0]
        for start, weight in enumerate(weights[1:], 1):
            total.add_(values.narrow(axis, start, length), alpha=weight)
        values = total
    return values


def build_window(size: int) -> list[float]:
    """The Gaussian of at most 11 places that fits into `size`, with sum 1."""
    radius = (min(WINDOW, size) - 1) // 2
    weights = [math.exp(-0.5 * (place / SIGMA) ** 2) for place in range(-radius, radius + 1)]
    return [weight / sum(weights) for weight in weights]
