"""Convolutions on planes: the front door of the kernels.

Each takes a plane, what is done to it first (`before`: a normalisation, an activation), what is added last (`residual`) and the plane to
write, and leaves the moments of what it wrote, from which the next layer's normalisation follows. No pass over memory is spent on either.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import compiled
from .before import CHANNEL, Before, to_steps
from .cooktoom import BY_INPUTS
from .geometry import (
    CHUNK,
    POINT_PADDING,
    PRODUCT_PADDING,
    Block,
    Edge,
    Shape,
    Source,
    Target,
    check_edge,
    count_tiles,
    cut_blocks,
    to_side,
)
from .moments import PARTS, Moments, join_moments
from .packed import PHASES, Packed
from .plane import Plane, build_plane
from .pool import Pool, Scratch
from .steps import LANES, POINTS

PIXELS = 252  # pixels of a block of a 1x1 convolution: a multiple of the rows that the product takes at once
PLAIN_POINTS = POINTS[6]  # where the points do not matter: one version of each kernel is enough


def choose_block(channels: int, points: int, tiles: tuple[int, int], threads: int) -> tuple[tuple[int, int], int]:
    """Tiles of a block down and across, and channels out that are worked on at once: what keeps a block in the second and third cache.

    Where that leaves less than two blocks to a thread they are halved, down to 16 tiles: the weights are read once for every block.
    """
    if points == 8:
        down, across = (6, 12) if channels >= 256 else (6, 6)
    else:
        down, across = (9, 9) if points == 5 else (8, 8) if channels >= 256 else (8, 16)
    while -(-tiles[0] // down) * -(-tiles[1] // across) < 2 * threads and down * across >= 32:
        down, across = (down, -(-across // 2)) if across > down else (-(-down // 2), across)
    return (down, across), 256 if points == 5 or channels >= 256 else 128


def count_left(channels: int, points: int, tiles: int) -> int:
    """Numbers of the transformed input of a block."""
    return points**2 * (tiles * channels + POINT_PADDING)


def count_window(points: int, down: int, across: int) -> tuple[int, int]:
    """Numbers of what a block of `down` x `across` tiles is transformed in: its pixels and a row of tiles half done; a factor a pixel."""
    side = to_side(points)
    wide, high = across * side + points - side, down * side + points - side
    return (high + points) * wide * CHUNK, high * wide


def count_products(points: int, tiles: int, columns: int) -> int:
    return points**2 * (tiles * columns + PRODUCT_PADDING)


def count_scratch(channels: int, stored: int, points: int, tiles: tuple[int, int], threads: int) -> int:
    """Float32 numbers that the buffers of one thread take at most while a layer of `points` (8, 6, 5 or 1) runs.

    `tiles` down and across are those of the rows that are written at once (`geometry.count_tiles`); they do not matter for 1 point, where
    a layer with nothing before it or nothing added takes less. Buffers are kept from one layer to the next: several layers take, of each
    buffer, what the hungriest does, and that is less than the sum of these numbers.
    """
    if points == 1:
        return PIXELS * (channels + stored)
    (down, across), columns = choose_block(channels, points, tiles, threads)
    down, across = min(down, tiles[0]), min(across, tiles[1])
    products = count_products(points, down * across, min(columns, stored))
    return count_left(channels, points, down * across) + sum(count_window(points, down, across)) + products


def convolve(
    packed: Packed,
    source: Plane,
    target: Plane | None = None,
    *,
    before: Before | None = None,
    residual: Plane | None = None,
    edge: Edge = "zeros",
    pool: Pool,
) -> Plane:
    """A 3x3 convolution with stride 1 and a border of zeros; where `packed` says so, of the image with every pixel repeated twice each way.

    The zeros are around the input after `before`; with `edge` "repeat" the pixels at the edge are there again instead. Writes the rows
    that `target` holds (which may be `residual` itself, but not `source`), or a new plane. Raises ValueError where the planes do not fit
    together.
    """
    step = 2 if packed.phases == 4 else 1
    check_edge(edge, plain=step == 1)
    if target is None:
        target = build_plane(step * source.height, step * source.width, packed.stored)
    check_planes(packed, source, target, residual, step)
    low, high = target.rows
    tiles = count_tiles(target.rows, source.width, packed.points)
    first = low // (step * to_side(packed.points))
    sides, columns = choose_block(packed.channels, packed.points, tiles, len(pool.scratches))
    blocks = list(cut_blocks((first + tiles[0], tiles[1]), sides, first))
    check_tiles(source, blocks, packed.points)
    parts = np.zeros((len(blocks), packed.phases, PARTS * packed.stored))
    where = Source(source.height, source.width, source.channels, source.first_row, int(edge == "repeat"))
    run = build_worker(packed, (source, where), target, before, residual)

    def work(scratch: Scratch, item: int) -> None:
        block = blocks[item]
        left = run(scratch, block)
        for phase in range(packed.phases):
            for channel in range(0, packed.stored, columns):
                to = Target(low, high, target.width, target.channels, low, step, *PHASES[phase], channel)
                left(parts[item, phase], to._replace(columns=min(columns, packed.stored - channel)), phase)

    pool.run(work, range(len(blocks)))
    target.moments = join_moments(parts.reshape(-1, PARTS, packed.stored))
    return target


Finish = Callable[[np.ndarray, Target, int], None]


def build_worker(
    packed: Packed, origin: tuple[Plane, Source], target: Plane, before: Before | None, residual: Plane | None
) -> Callable[[Scratch, Block], Finish]:
    """run(scratch, block) transforms the input of a block, and gives what then makes some channels of one phase of its results."""
    kind, points = (LANES[packed.lanes], POINTS[packed.points]), packed.points
    source, where = origin
    x, y = source.pixels.reshape(-1), target.pixels.reshape(-1)
    added = None if residual is None else residual.pixels.reshape(-1)
    steps, table = to_steps(before, packed.channels)
    zeros = np.zeros(packed.stored * packed.phases, np.float32)
    panels = len(zeros) // (2 * packed.lanes)

    def run(scratch: Scratch, block: Block) -> Finish:
        tiles, depth = block.rows * block.columns, packed.channels
        left = scratch.take("left", count_left(depth, points, tiles))
        behind, factors = count_window(points, block.rows, block.columns)
        window = scratch.take("window", behind + factors)
        if steps[0] == CHANNEL:
            compiled.fill_factors(x, window, behind, where, block, points)
        compiled.transform_input(x, table, steps, left, window, where, block, kind)

        def finish(sums: np.ndarray, to: Target, phase: int) -> None:
            products = scratch.take("products", count_products(points, tiles, to.columns))
            panel = (phase * packed.stored + to.channel) // (2 * packed.lanes)
            strides = (0, tiles * depth + POINT_PADDING, depth, 0, tiles * to.columns + PRODUCT_PADDING, to.columns)
            shape = Shape(points**2, tiles, depth, to.columns, *strides, panel, panels)
            compiled.multiply_points(left, packed.weights, zeros, products, shape, (LANES[packed.lanes], PLAIN_POINTS))
            compiled.transform_output(products, packed.bias, added, y, sums, to, block, kind)

        return finish

    return run


def check_planes(packed: Packed, source: Plane, target: Plane, residual: Plane | None, step: int) -> None:
    expected = (step * source.height, step * source.width, packed.stored)
    found = (target.height, target.width, target.channels)
    if packed.points not in BY_INPUTS or source.channels != packed.channels or found != expected:
        raise ValueError(
            f"a layer {packed.channels} -> {packed.stored} makes {expected} of {source.height, source.width, source.channels}, not {found}"
        )
    check_memory(source, target, residual)


def check_memory(source: Plane, target: Plane, residual: Plane | None) -> None:
    if residual is not None and (residual.pixels.shape, residual.rows) != (target.pixels.shape, target.rows):
        raise ValueError(
            f"what is added has the rows {residual.rows} of {residual.pixels.shape}, the result {target.rows} of {target.pixels.shape}"
        )
    if np.may_share_memory(source.pixels, target.pixels):
        raise ValueError("a layer cannot write over its own input: others still read it")


def check_tiles(source: Plane, blocks: list[Block], points: int) -> None:
    """Every row of the image that a tile reads has to be held."""
    side = to_side(points)
    source.check_rows(blocks[0].row * side - 1, (blocks[-1].row + blocks[-1].rows) * side - 1 + points - side)


def apply_linear(
    packed: Packed,
    source: Plane,
    target: Plane | None = None,
    *,
    before: Before | None = None,
    residual: Plane | None = None,
    pool: Pool,
) -> Plane:
    """A 1x1 convolution, or a linear map of every pixel: W x + b + residual.

    `target` holds the same rows as `source` and may be `residual` itself, but not `source`; without one a plane is made. Raises ValueError
    where the planes do not fit together.
    """
    target = build_plane(source.height, source.width, packed.stored, source.rows) if target is None else target
    check_linear(packed, source, target, residual)
    x, y = source.pixels.reshape(-1), target.pixels.reshape(-1)
    added = None if residual is None else residual.pixels.reshape(-1)
    pixels, depth, stored = source.pixels.shape[0] * source.width, packed.channels, packed.stored
    kind = (LANES[packed.lanes], PLAIN_POINTS)
    steps, table = to_steps(before, depth)
    begins = range(0, pixels, PIXELS)
    parts = np.zeros((len(begins), PARTS * stored))

    def work(scratch: Scratch, begin: int) -> None:
        count = min(PIXELS, pixels - begin)
        left, at, result, to = x, begin * depth, y, begin * stored
        if steps[0]:
            left, at = scratch.take("left", PIXELS * depth), 0
            compiled.activate(x, begin * depth, table, steps, left, (count, depth), kind)
        if added is not None:  # it may be what is written
            result, to = scratch.take("products", PIXELS * stored), 0
        shape = Shape(1, count, depth, stored, at, 0, depth, to, 0, stored, 0, stored // (2 * packed.lanes))
        compiled.multiply_points(left, packed.weights, packed.bias, result, shape, kind)
        compiled.finish_linear(result, added, y, parts[begin // PIXELS], (to, begin * stored, count, stored), kind)

    pool.run(work, begins)
    target.moments = join_moments(parts.reshape(-1, PARTS, stored))
    return target


def check_linear(packed: Packed, source: Plane, target: Plane, residual: Plane | None) -> None:
    if packed.points != 1 or source.channels != packed.channels:
        raise ValueError(
            f"a 1x1 layer of {packed.channels} channels cannot be applied to {source.channels} channels ({packed.points} points)"
        )
    expected = (source.height, source.width, packed.stored, source.rows)
    found = (target.height, target.width, target.channels, target.rows)
    if found != expected:
        raise ValueError(f"a 1x1 layer makes {expected} (height, width, channels, rows) of this input, not {found}")
    check_memory(source, target, residual)


def gather_moments(plane: Plane, *, lanes: int, pool: Pool) -> Moments:
    """Of a plane that no kernel has written, in one pass over its pixels; `lanes` divides its channels."""
    channels, x, kind = plane.channels, plane.pixels.reshape(-1), (LANES[lanes], PLAIN_POINTS)
    if channels % lanes:
        raise ValueError(f"vectors of {lanes} do not divide {channels} channels")
    begins = range(0, len(x) // channels, PIXELS)
    parts = np.zeros((len(begins), PARTS * channels))

    def work(_scratch: Scratch, begin: int) -> None:
        count = min(PIXELS, len(x) // channels - begin)
        compiled.finish_linear(x, None, x, parts[begin // PIXELS], (begin * channels, begin * channels, count, channels), kind)

    pool.run(work, begins)
    return join_moments(parts.reshape(-1, PARTS, channels))
