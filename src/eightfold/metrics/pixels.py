"""How near two pictures are, pixel by pixel. Images in [-1, 1] are rounded to 8-bit sRGB first: what is measured is what is saved."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import ImageError

WINDOW, SPREAD = 11, 1.5  # the Gaussian window of the SSIM paper
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def to_levels(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """0 to 255, whole numbers, in float64."""
    return ((image.double().clamp(-1, 1) + 1) * 127.5).round()


def psnr(one: Float[Tensor, "b 3 h w"], other: Float[Tensor, "b 3 h w"]) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite for equal pictures."""
    require_same(one, other)
    error = (to_levels(one) - to_levels(other)).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(one: Float[Tensor, "b 3 h w"], other: Float[Tensor, "b 3 h w"]) -> float:
    """Structural similarity (Wang et al. 2004), mean over channels and pixels whose window lies inside; 1 for equal pictures.

    The window is Gaussian, sigma 1.5, 11 pixels wide; for a picture smaller than that, as wide as the picture allows.
    """
    require_same(one, other)
    a, b = to_levels(one), to_levels(other)
    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + C1) * (2 * covariance + C2) / ((mean_a**2 + mean_b**2 + C1) * (variance_a + variance_b + C2))
    return alike.mean().item()


def blur(image: Tensor) -> Tensor:
    channels = image.shape[1]
    for axis in (-1, -2):
        width = min(WINDOW, image.shape[axis] - (image.shape[axis] + 1) % 2)  # odd
        at = torch.arange(width, dtype=image.dtype) - width // 2
        weights = torch.exp(-0.5 * (at / SPREAD) ** 2)
        kernel = (weights / weights.sum()).reshape(1, 1, *((1, width) if axis == -1 else (width, 1))).repeat(channels, 1, 1, 1)
        image = F.conv2d(image, kernel, groups=channels)
    return image


def require_same(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ImageError(f"pictures of {list(one.shape)} and {list(other.shape)} cannot be compared", hint="they need the same width and height")
