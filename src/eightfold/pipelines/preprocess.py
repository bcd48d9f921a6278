"""Pictures that ControlNets are shown, made from others without learned weights: edges, lines and maps of depth, white on black."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from ..codec.pixels import Picture
from ..core.errors import ImageError, RequestError, UnknownName

LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue are (ITU-R BT.601)
REACH = 4.0  # a Gaussian ends after so many standard deviations
COLOURED, MOST_COLOURED = 24.0, 0.01  # channels that differ by more, of 255, and the share of such pixels that a grey picture may have
BROADEST = 100.0


def preprocess(name: str, picture: Picture, **settings: float) -> Picture:
    """The picture of the same size that a ControlNet is shown; "none" leaves it as it is. `settings` are the arguments of the function.

    Resize first: edges are a pixel wide. Raises UnknownName for a preprocessor or a setting that does not exist, RequestError for a setting
    out of range, ImageError for a picture that it cannot be made from.
    """
    if name not in PREPROCESSORS:
        raise UnknownName("preprocessor", name, PREPROCESSORS)
    function = PREPROCESSORS[name]
    known = list_settings(name)
    for setting in settings:
        if setting not in known:
            raise UnknownName(f"setting of {name}", setting, known)
    return function(picture, **settings)


def list_settings(name: str) -> dict[str, float]:
    """What a preprocessor can be told, and what holds where it is not."""
    return {key: one.default for key, one in signature(PREPROCESSORS[name]).parameters.items() if key != "picture"}


def leave(picture: Picture) -> Picture:
    """The picture as it is, where somebody else has prepared it."""
    return picture


def find_edges(picture: Picture, *, low: float = 100.0, high: float = 200.0, sigma: float = 1.0) -> Picture:
    """Edges a pixel wide (Canny, IEEE PAMI 8, 1986): where brightness, smoothed by `sigma` pixels, changes most along its gradient.

    The gradient is that of 3x3 Sobel sums of brightness from 0 to 255. An edge has `high` somewhere, and nowhere less than `low`.
    """
    if not 0 <= low <= high:
        hint = "the customary ones are 100 and 200; lower ones find more"
        raise RequestError(f"canny thresholds {low:g} and {high:g}: expected 0 or more, the low one at most the high one", hint=hint)
    smooth = blur(to_grey(picture), sigma)
    across, down = sum_sobel(smooth), sum_sobel(smooth.T).T
    strength = np.hypot(across, down)
    weak = find_ridges(strength, across, down, low)
    return to_mask(grow(weak & (strength >= high), weak), picture)


def draw_lines(picture: Picture, *, threshold: float = 16.0, fine: float = 0.5, coarse: float = 5.0) -> Picture:
    """What is darker than around it, as the lines of a drawing are: a difference of Gaussians (Marr and Hildreth, 1980).

    They are `fine` and `coarse` pixels wide; `threshold` says by how much darker, of 255.
    """
    if not 0 <= fine < coarse:
        what = f"lines from {fine:g} to {coarse:g} pixels: expected 0 or more, the fine width below the coarse one"
        raise RequestError(what, hint="the customary ones are 0.5 and 5")
    if not 0 <= threshold < 255:
        raise RequestError(f"lines darker by {threshold:g}: expected 0 or more, below 255", hint="the customary threshold is 16")
    grey = to_grey(picture)
    return to_mask(blur(grey, coarse) - blur(grey, fine) > threshold, picture)


def level_depth(picture: Picture, *, invert: bool = False) -> Picture:
    """The user's map of depth, from its darkest to its brightest: black is far and white is near. `invert` is for maps that say otherwise.

    Raises ImageError for a picture with colours, or of one brightness.
    """
    levels = (picture.image[0].double().numpy() + 1) * 127.5
    coloured = float((np.ptp(levels, axis=0) > COLOURED).mean())
    name = picture.source or "the picture"
    if coloured > MOST_COLOURED:
        what = f"{name} has colours in {coloured:.0%} of its pixels: a map of depth is grey"
        raise ImageError(what, hint="save it without a colour scale: white is near, black is far")
    grey = levels.mean(axis=0)
    darkest, brightest = float(grey.min()), float(grey.max())
    if brightest - darkest < 1:
        raise ImageError(f"{name} has one brightness everywhere: no depth", hint="white is near, black is far")
    depth = (grey - darkest) / (brightest - darkest)
    return to_picture(1 - depth if invert else depth, picture)


PREPROCESSORS: dict[str, Callable[..., Picture]] = {"canny": find_edges, "lines": draw_lines, "depth": level_depth, "none": leave}


def to_grey(picture: Picture) -> Float[ndarray, "h w"]:
    """Brightness from 0 to 255; what can be seen through is laid on white."""
    image = picture.image if picture.alpha is None else 1 - picture.alpha * (1 - picture.image)
    return np.tensordot(LUMA, (image[0].double().cpu().numpy() + 1) * 127.5, axes=1)


def to_mask(white: Bool[ndarray, "h w"], picture: Picture) -> Picture:
    return to_picture(white.astype(np.float64), picture)


def to_picture(grey: Float[ndarray, "h w"], picture: Picture) -> Picture:
    """From 0 to 1, under the name of the picture that it was made from."""
    image = torch.tensor(grey * 2 - 1, dtype=torch.float32)
    return Picture(image.expand(1, 3, -1, -1).contiguous(), source=picture.source)


def blur(grey: Float[ndarray, "h w"], sigma: float) -> Float[ndarray, "h w"]:
    """Under a Gaussian of `sigma` pixels; beyond the border there is nothing, and what is inside counts more."""
    if not 0 <= sigma <= BROADEST:
        raise RequestError(f"a blur of {sigma:g} pixels: expected 0 to {BROADEST:g}", hint="1 is usual")
    radius = int(REACH * sigma + 0.5)
    if radius == 0:
        return grey
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return blur_rows(blur_rows(grey, taps).T, taps).T


def blur_rows(grey: Float[ndarray, "h w"], taps: Float[ndarray, " k"]) -> Float[ndarray, "h w"]:
    radius, width = len(taps) // 2, grey.shape[1]
    padded = np.pad(grey, ((0, 0), (radius, radius)))
    inside = np.pad(np.ones(width), radius)
    total, counted = np.zeros_like(grey), np.zeros(width)
    for place, tap in enumerate(taps):
        total += tap * padded[:, place : place + width]
        counted += tap * inside[place : place + width]
    return total / counted


def sum_sobel(grey: Float[ndarray, "h w"]) -> Float[ndarray, "h w"]:
    """How brightness changes to the right: 2, 0 and -2 times, in the rows around half of that. Beyond the border it goes on as it is."""
    padded = np.pad(grey, 1, mode="edge")
    change = padded[:, 2:] - padded[:, :-2]
    return change[:-2] + 2 * change[1:-1] + change[2:]


def find_ridges(
    strength: Float[ndarray, "h w"], across: Float[ndarray, "h w"], down: Float[ndarray, "h w"], low: float
) -> Bool[ndarray, "h w"]:
    """Where the gradient is at least `low` and larger than on either side, along its own direction.

    On either side it is what lies between the two pixels that the direction passes between. Of two equal ones in a row the brighter
    stays, so that an edge has one pixel. Nobody knows what is beyond the border: pixels there are none.
    """
    height, width = strength.shape
    inside = np.zeros_like(strength, dtype=bool)
    inside[1:-1, 1:-1] = (strength[1:-1, 1:-1] >= low) & (strength[1:-1, 1:-1] > 0)
    at = np.flatnonzero(inside)
    x, y, flat = across.ravel()[at], down.ravel()[at], strength.ravel()
    beside, below = np.where(x >= 0, 1, -1), np.where(y >= 0, 1, -1) * width
    flatter = np.abs(x) >= np.abs(y)
    straight, slanted = np.where(flatter, beside, below), beside + below
    share = np.minimum(np.abs(x), np.abs(y)) / np.maximum(np.abs(x), np.abs(y))
    ahead = share * flat[at + slanted] + (1 - share) * flat[at + straight]
    behind = share * flat[at - slanted] + (1 - share) * flat[at - straight]
    ridges = np.zeros(height * width, dtype=bool)
    ridges[at[(flat[at] > ahead) & (flat[at] >= behind)]] = True
    return ridges.reshape(height, width)


def grow(seeds: Bool[ndarray, "h w"], weak: Bool[ndarray, "h w"]) -> Bool[ndarray, "h w"]:
    """All that is `weak` and hangs together with a seed, corners included. Nothing of it lies on the border."""
    width = weak.shape[1]
    around = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    left = (weak & ~seeds).ravel()
    front = np.flatnonzero(seeds)
    while front.size:
        near = (front[:, None] + around).ravel()
        front = np.unique(near[left[near]])
        left[front] = False
    return weak & ~left.reshape(weak.shape)
