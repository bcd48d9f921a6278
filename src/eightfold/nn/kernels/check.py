"""A small case of every kernel against plain torch, before anything depends on it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from .before import Before
from .direct import convolve_directly
from .geometry import Edge
from .layers import apply_linear, convolve
from .linear import apply_rows
from .moments import measure_moments, to_affine
from .packed import pack_weights
from .plane import Plane, build_plane, to_planes
from .pool import Pool
from .streamed import Image, convolve_streamed

ALLOWED = 1e-4  # of the largest result: a hundred times what rounding does, and far below what any mistake makes


def find_difference(widths: Iterable[int]) -> str:
    """What differs for vectors of these widths, in words; empty where nothing does."""
    for lanes in widths:
        for name, ours, theirs in run_cases(lanes, Pool(2)):
            largest = float(np.abs(theirs.pixels).max())
            error = float(np.abs(ours.pixels[..., : theirs.channels] - theirs.pixels).max())
            if not error <= ALLOWED * largest:
                return f"{name} with vectors of {lanes} is off by {error:.3g} of {largest:.3g} on this CPU"
            if ours.moments is not None and theirs.moments is not None:
                spread = np.sqrt(theirs.moments.squares / theirs.moments.count)
                apart = np.abs(ours.moments.mean[: theirs.channels] - theirs.moments.mean).max()
                if not apart <= ALLOWED * spread.max():
                    return f"the mean after {name} with vectors of {lanes} is off by {apart:.3g}"
    return ""


def run_cases(lanes: int, pool: Pool) -> Iterable[tuple[str, Plane, Plane]]:
    """Name, ours, torch's: sizes that leave tiles half full on both sides, and all versions of a kernel that a decoder uses."""
    generator = torch.Generator().manual_seed(0)
    channels, outputs = 2 * lanes, 2 * lanes
    source = to_planes(torch.randn(1, channels, 10, 7, generator=generator) + 3)[0]
    weight = torch.randn(outputs, channels, 3, 3, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    random = np.random.default_rng(0)
    normed = Before(affine=to_affine(measure_moments(source.pixels), 2, np.ones(channels), np.zeros(channels), 1e-6), silu=True)
    scaled = Before(gamma=random.uniform(0.5, 2, channels).astype(np.float32), relu=True)
    packed = pack_weights(weight.numpy(), bias.numpy(), lanes=lanes, pool=pool)
    cases: list[tuple[Before, Edge]] = [(normed, "zeros"), (scaled, "repeat"), (Before(relu=True), "zeros")]
    for before, edge in cases:
        ours = convolve(packed, source, before=before, edge=edge, pool=pool)
        name = "a convolution" if edge == "zeros" else "a convolution with a repeated edge"
        yield name, ours, convolve_directly(weight, bias, source, before=before, edge=edge)
    larger = pack_weights(weight.numpy(), bias.numpy(), lanes=lanes, pool=pool, points=8)
    yield (
        "a convolution in large tiles",
        convolve(larger, source, before=normed, pool=pool),
        convolve_directly(weight, bias, source, before=normed),
    )
    added = build_plane(10, 7, outputs)
    added.pixels[:] = 1
    theirs = convolve_directly(weight, bias, source, residual=added)
    yield "a residual convolution", convolve(packed, source, added, residual=added, pool=pool), theirs
    added.pixels[:] = 1
    yield "a residual convolution in large tiles", convolve(larger, source, added, residual=added, pool=pool), theirs
    enlarged = pack_weights(weight.numpy(), bias.numpy(), lanes=lanes, pool=pool, enlarge=True)
    yield "an enlarging convolution", convolve(enlarged, source, pool=pool), convolve_directly(weight, bias, source, enlarge=True)
    point = weight[:, :, :1, :1].contiguous()
    small = pack_weights(point.numpy(), bias.numpy(), lanes=lanes, pool=pool)
    theirs = convolve_directly(point, bias, source, before=normed)
    yield "a 1x1 convolution", apply_linear(small, source, before=normed, pool=pool), theirs
    added = to_planes(torch.randn(1, outputs, 10, 7, generator=generator))[0]
    theirs = convolve_directly(point, bias, source, before=scaled, residual=added)
    yield "a residual 1x1 convolution", apply_linear(small, source, added, before=scaled, residual=added, pool=pool), theirs
    yield from run_streamed((weight, bias), source, normed, lanes, pool)


def run_streamed(layer: tuple[Tensor, Tensor], source: Plane, normed: Before, lanes: int, pool: Pool) -> Iterable[tuple[str, Plane, Plane]]:
    """The same of the kernels that transform weights where they use them."""
    (weight, bias), outputs = layer, len(layer[0])
    for enlarge in (False, True):
        target = build_plane(20, 14, outputs) if enlarge else build_plane(10, 7, outputs)
        image = Image(source=source, target=target, bias=bias.numpy(), before=None if enlarge else normed)
        convolve_streamed(weight.numpy(), [image], lanes=lanes, enlarge=enlarge, pool=pool)
        theirs = convolve_directly(weight, bias, source, before=image.before, enlarge=enlarge)
        yield "a streamed convolution", target, theirs
    added = build_plane(10, 7, outputs)
    added.pixels[:] = 1
    theirs = convolve_directly(weight, bias, source, before=normed, residual=added)
    image = Image(source=source, target=added, bias=bias.numpy(), before=normed, residual=added)
    convolve_streamed(weight.numpy(), [image], lanes=lanes, pool=pool)
    yield "a streamed residual convolution", added, theirs
    made, point = build_plane(10, 7, outputs), weight[:, :, :1, :1].contiguous()
    rows = (source.pixels.reshape(-1, source.channels), made.pixels.reshape(-1, outputs))
    apply_rows(point.flatten(1).numpy(), bias.numpy(), *rows, lanes=lanes, pool=pool)
    yield "a linear map", made, convolve_directly(point, bias, source)
