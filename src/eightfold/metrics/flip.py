"""FLIP: how different two pictures look when one flips between them, pixel by pixel.

Andersson, Nilsson, Akenine-Möller, Oskarsson, Åström and Fairchild, "FLIP: A Difference Evaluator for Alternating Images", Proceedings of
the ACM on Computer Graphics and Interactive Techniques (HPG 2020), the metric for pictures of standard range.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .pixels import to_levels

PIXELS_PER_DEGREE = 3840 * math.pi / 180  # 67.0206: the paper's viewer, 0.7 m before a screen 0.7 m and 3840 pixels wide
PRIMARIES, WHITE = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), (0.3127, 0.3290)  # sRGB: x and y of red, green, blue and D65

# the contrast sensitivity functions of the paper: a1, b1, a2, b2 of achromatic, red-green and blue-yellow; b in square degrees
SENSITIVITY = ((1.0, 0.0047, 0.0, 1e-5), (1.0, 0.0053, 0.0, 1e-5), (34.1, 0.04, 13.5, 0.025))
COLOUR_POWER, FEATURE_POWER = 0.7, 0.5  # q_c, q_f
BEND, BENT = 0.4, 0.95  # p_c, p_t: errors up to this share of the largest are spread over that share of the scale
FEATURE_WIDTH = 0.082  # degrees: w, twice the standard deviation of the edge and point detectors


def flip(
    reference: Float[Tensor, "1 3 h w"], test: Float[Tensor, "1 3 h w"], *, pixels_per_degree: float = PIXELS_PER_DEGREE
) -> Float[Tensor, "h w"]:
    """The error of every pixel, 0 (no difference to be seen) to 1; its mean is the figure that the paper gives for a pair.

    Images are sRGB in [-1, 1] and are rounded to 8 bits first, as their files would hold them; beyond the border the outermost pixels
    go on. `pixels_per_degree` is how many pixels one degree of the visual field holds. Raises ValueError where the shapes differ.
    """
    first, second = (to_opponent(to_linear(levels.float() / 255)) for levels in to_levels(reference, test))
    colour = compare_colours(first, second, pixels_per_degree)
    features = compare_features(first, second, pixels_per_degree)
    return (colour ** (1 - features))[0, 0]


def compare_colours(first: Tensor, second: Tensor, density: float) -> Tensor:
    """What is left to the eye of the colours, compared by HyAB and brought to 0..1 (the paper's colour pipeline)."""
    error = measure_distance(*(to_hunt(to_lab(see(image, density))) for image in (first, second))) ** COLOUR_POWER
    green, blue = (torch.tensor(colour, dtype=first.dtype).view(1, 3, 1, 1) for colour in ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    largest = measure_distance(to_hunt(to_lab(green)), to_hunt(to_lab(blue))) ** COLOUR_POWER
    share = error / largest
    return torch.where(share < BEND, share * (BENT / BEND), BENT + (share - BEND) / (1 - BEND) * (1 - BENT)).clamp(0, 1)


def compare_features(first: Tensor, second: Tensor, density: float) -> Tensor:
    """How far edges and points stand out in one image and not in the other, 0..1 (the feature pipeline)."""
    edges, points = zip(*(find_features((image[:, :1] + 16) / 116, density) for image in (first, second)), strict=True)
    stronger = torch.maximum((edges[0] - edges[1]).abs(), (points[0] - points[1]).abs())
    return (stronger / math.sqrt(2)).clamp(0, 1) ** FEATURE_POWER


def see(image: Tensor, density: float) -> Tensor:
    """YCxCz as linear RGB without the detail that is too fine for the eye at this many pixels a degree."""
    radius = math.ceil(3 * math.sqrt(max(max(b1, b2) for _, b1, _, b2 in SENSITIVITY) / (2 * math.pi**2)) * density)
    seen = [blur_twice(image[:, [channel]], terms, radius, density) for channel, terms in enumerate(SENSITIVITY)]
    return to_rgb(torch.cat(seen, dim=1)).clamp(0, 1)


def blur_twice(plane: Tensor, terms: tuple[float, float, float, float], radius: int, density: float) -> Tensor:
    """A sum of two Gaussians a sqrt(pi / b) exp(-(pi x)^2 / b), x in degrees, brought to weight 1. Each is applied down and across."""
    total, weight = torch.zeros_like(plane), 0.0
    for a, b in (terms[:2], terms[2:]):
        if a:
            line = [math.exp(-((math.pi * place / density) ** 2) / b) for place in range(-radius, radius + 1)]
            share = a * math.sqrt(math.pi / b) * sum(line) ** 2
            even = [value / sum(line) for value in line]
            total, weight = total + share * filter_along(filter_along(plane, even, -1), even, -2), weight + share
    return total / weight


def find_features(grey: Tensor, density: float) -> tuple[Tensor, Tensor]:
    """The strength of edges and of points: the length of the first and of the second derivatives of a Gaussian, across and down."""
    deviation = 0.5 * FEATURE_WIDTH * density
    radius = math.ceil(3 * deviation)
    places = range(-radius, radius + 1)
    bell = [math.exp(-0.5 * (place / deviation) ** 2) for place in places]
    even = [value / sum(bell) for value in bell]
    edge = to_balanced([-place * value for place, value in zip(places, bell, strict=True)])
    point = to_balanced([((place / deviation) ** 2 - 1) * value for place, value in zip(places, bell, strict=True)])
    across, down = filter_along(grey, even, -2), filter_along(grey, even, -1)
    edges, points = (torch.hypot(filter_along(across, line, -1), filter_along(down, line, -2)) for line in (edge, point))
    return edges, points


def to_balanced(line: list[float]) -> list[float]:
    """Positive weights with sum 1, negative with sum -1, so that both detectors answer 1 at most."""
    above, below = sum(value for value in line if value > 0), -sum(value for value in line if value < 0)
    return [value / above if value > 0 else value / below for value in line]


def filter_along(plane: Tensor, weights: list[float], axis: int) -> Tensor:
    """Weighted sum of the neighbours along one axis, as shifted sums; the outermost pixels go on beyond the border."""
    radius, length = len(weights) // 2, plane.shape[axis]
    padded = F.pad(plane, (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius), mode="replicate")
    total = torch.zeros_like(plane)
    for start, weight in enumerate(weights):
        total.add_(padded.narrow(axis, start, length), alpha=weight)
    return total


def to_linear(image: Tensor) -> Tensor:
    """sRGB in 0..1 to linear light (IEC 61966-2-1)."""
    return torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def to_opponent(rgb: Tensor) -> Tensor:
    """Linear RGB to YCxCz: CIELAB without its cube root, linear in light."""
    x, y, z = to_relative(rgb).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def to_rgb(opponent: Tensor) -> Tensor:
    """The inverse of `to_opponent`."""
    light, red, blue = opponent.unbind(1)
    y = (light + 16) / 116
    return torch.einsum("ij,bjhw->bihw", build_matrix().inverse().to(opponent), torch.stack([y + red / 500, y, y - blue / 200], dim=1))


def to_lab(rgb: Tensor) -> Tensor:
    """Linear RGB to CIELAB."""
    relative, knee = to_relative(rgb), 6 / 29
    x, y, z = torch.where(relative > knee**3, relative.clamp(min=knee**3) ** (1 / 3), relative / (3 * knee**2) + 4 / 29).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def to_hunt(lab: Tensor) -> Tensor:
    """Colours count less where it is dark (the Hunt effect)."""
    return torch.cat([lab[:, :1], 0.01 * lab[:, :1] * lab[:, 1:]], dim=1)


def measure_distance(first: Tensor, second: Tensor) -> Tensor:
    """HyAB: the difference of lightness plus the distance of the two hues."""
    apart = first - second
    return apart[:, :1].abs() + torch.hypot(apart[:, 1:2], apart[:, 2:])


def to_relative(rgb: Tensor) -> Tensor:
    """Linear RGB to X, Y and Z, each as a share of white's."""
    return torch.einsum("ij,bjhw->bihw", build_matrix().to(rgb), rgb)


@cache
def build_matrix() -> Tensor:
    """Linear sRGB to XYZ relative to white, from the primaries: white is (1, 1, 1) on both sides."""
    primaries = torch.tensor([(x / y, 1.0, (1 - x - y) / y) for x, y in PRIMARIES], dtype=torch.float64).T
    x, y = WHITE
    white = torch.tensor((x / y, 1.0, (1 - x - y) / y), dtype=torch.float64)
    return primaries * torch.linalg.solve(primaries, white) / white[:, None]
