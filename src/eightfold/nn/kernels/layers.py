"""Convolutions on planes: the front door of the kernels.

Each takes a plane, what is done to it first (`affine`: a group normalisation, then SiLU), what is added last (`residual`) and the plane to
write, and leaves the moments of what it wrote, from which the next layer's normalisation follows. No pass over memory is spent on either.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import compiled
from .cooktoom import BY_INPUTS
from .geometry import CHUNK, POINT_PADDING, PRODUCT_PADDING, SIDE, Block, Shape, Source, Target, cut_blocks
from .moments import join_moments
from .packed import PHASES, Packed
from .plane import Plane, build_plane
from .pool import Pool, Scratch
from .steps import LANES, POINTS

NOTHING = np.zeros(3, np.float32)
PIXELS = 252  # pixels of a block of a 1x1 convolution: a multiple of the rows that the product takes at once


def choose_block(packed: Packed, tiles: tuple[int, int], threads: int) -> tuple[tuple[int, int], int]:
    """Tiles of a block down and across, and channels out that are worked on at once: what keeps a block in the second and third cache.

    Where that leaves less than two blocks to a thread they are halved, down to 16 tiles: the weights are read once for every block.
    """
    down, across = (9, 9) if packed.points == 5 else (8, 8) if packed.channels >= 256 else (8, 16)
    while -(-tiles[0] // down) * -(-tiles[1] // across) < 2 * threads and down * across >= 32:
        down, across = (down, -(-across // 2)) if across > down else (-(-down // 2), across)
    return (down, across), 256 if packed.points == 5 or packed.channels >= 256 else 128


def convolve(
    packed: Packed,
    source: Plane,
    target: Plane | None = None,
    *,
    affine: np.ndarray | None = None,
    residual: Plane | None = None,
    pool: Pool,
) -> Plane:
    """A 3x3 convolution with stride 1 and a border of zeros; where `packed` says so, of the image with every pixel repeated twice each way.

    Writes the rows that `target` holds (which may be `residual` itself, but not `source`), or a new plane. Raises ValueError where the
    planes do not fit together.
    """
    step = 2 if packed.phases == 4 else 1
    if target is None:
        target = build_plane(step * source.height, step * source.width, packed.stored)
    check_planes(packed, source, target, residual, step)
    low, high = target.rows
    tiles = (high // (2 * SIDE) + 1, source.width // SIDE + 1) if step == 2 else (-(-high // SIDE), -(-source.width // SIDE))
    sides, columns = choose_block(packed, tiles, len(pool.scratches))
    blocks = list(cut_blocks(tiles, sides, low // (step * SIDE)))
    check_rows(source, blocks, packed.points)
    parts = np.zeros((len(blocks), packed.phases, 3 * packed.stored))
    run = build_worker(packed, source, target, affine, residual)

    def work(scratch: Scratch, item: int) -> None:
        block = blocks[item]
        left = run(scratch, block)
        for phase in range(packed.phases):
            for channel in range(0, packed.stored, columns):
                where = Target(low, high, target.width, target.channels, low, step, *PHASES[phase], channel)
                left(parts[item, phase], where._replace(columns=min(columns, packed.stored - channel)), phase)

    pool.run(work, range(len(blocks)))
    target.moments = join_moments(parts.reshape(-1, 3, packed.stored))
    return target


Finish = Callable[[np.ndarray, Target, int], None]


def build_worker(
    packed: Packed, source: Plane, target: Plane, affine: np.ndarray | None, residual: Plane | None
) -> Callable[[Scratch, Block], Finish]:
    """run(scratch, block) transforms the input of a block, and gives what then makes some channels of one phase of its results."""
    kind, points = (LANES[packed.lanes], POINTS[packed.points]), packed.points**2
    where = Source(source.height, source.width, source.channels, source.first_row)
    x, y = source.pixels.reshape(-1), target.pixels.reshape(-1)
    added = None if residual is None else residual.pixels.reshape(-1)
    mode, table = (compiled.PLAIN, NOTHING) if affine is None else (compiled.NORM_SILU, affine)
    zeros = np.zeros(packed.stored * packed.phases, np.float32)
    panels = len(zeros) // (2 * packed.lanes)

    def run(scratch: Scratch, block: Block) -> Finish:
        tiles, depth = block.rows * block.columns, packed.channels
        reach = packed.points - SIDE
        across = block.columns * SIDE + reach
        left = scratch.take("left", points * (tiles * depth + POINT_PADDING))
        window = scratch.take("window", (block.rows * SIDE + reach + packed.points) * across * CHUNK)
        compiled.transform_input(x, table, mode, left, window, where, block, kind)

        def finish(sums: np.ndarray, to: Target, phase: int) -> None:
            products = scratch.take("products", points * (tiles * to.columns + PRODUCT_PADDING))
            panel = (phase * packed.stored + to.channel) // (2 * packed.lanes)
            steps = (0, tiles * depth + POINT_PADDING, depth, 0, tiles * to.columns + PRODUCT_PADDING, to.columns)
            shape = Shape(points, tiles, depth, to.columns, *steps, panel, panels)
            compiled.multiply_points(left, packed.weights, zeros, products, shape, (LANES[packed.lanes], POINTS[6]))
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
    if residual is not None and (residual.pixels.shape, residual.rows) != (target.pixels.shape, target.rows):
        raise ValueError(
            f"what is added has the rows {residual.rows} of {residual.pixels.shape}, the result {target.rows} of {target.pixels.shape}"
        )
    if np.may_share_memory(source.pixels, target.pixels):
        raise ValueError("a convolution cannot write over its own input: neighbouring tiles still read it")


def check_rows(source: Plane, blocks: list[Block], points: int) -> None:
    """Every row of the image that a tile reads has to be held."""
    first = max(0, blocks[0].row * SIDE - 1)
    last = min(source.height, (blocks[-1].row + blocks[-1].rows) * SIDE - 1 + points - SIDE)
    begin, end = source.rows
    if first < begin or last > end:
        raise ValueError(f"the rows {first} to {last} are read, and the input holds {begin} to {end}")


def apply_linear(packed: Packed, source: Plane, *, affine: np.ndarray | None = None, activate: bool = False, pool: Pool) -> Plane:
    """A 1x1 convolution, or a linear map of every pixel. `affine` normalises first, followed by SiLU only if asked to `activate`."""
    if packed.points != 1 or source.channels != packed.channels:
        raise ValueError(
            f"a 1x1 layer of {packed.channels} channels cannot be applied to {source.channels} channels ({packed.points} points)"
        )
    target = build_plane(source.height, source.width, packed.stored, source.rows)
    x, y = source.pixels.reshape(-1), target.pixels.reshape(-1)
    pixels, depth = source.pixels.shape[0] * source.width, packed.channels
    kind = (LANES[packed.lanes], POINTS[6])  # the points do not matter here, and one version of each kernel is enough
    panels = packed.stored // (2 * packed.lanes)

    def work(scratch: Scratch, begin: int) -> None:
        count = min(PIXELS, pixels - begin)
        left, at = x, begin * depth
        if affine is not None:
            left, at = scratch.take("left", PIXELS * depth), 0
            mode = compiled.NORM_SILU if activate else compiled.NORM
            compiled.activate(x, begin * depth, affine, mode, left, (count, depth), kind)
        shape = Shape(1, count, depth, packed.stored, at, 0, depth, begin * packed.stored, 0, packed.stored, 0, panels)
        compiled.multiply_points(left, packed.weights, packed.bias, y, shape, kind)

    pool.run(work, range(0, pixels, PIXELS))
    return target
