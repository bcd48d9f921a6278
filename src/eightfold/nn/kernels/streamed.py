"""Convolutions whose weights are transformed where they are used: a panel at a time, in a thread's cache, for a whole batch, and forgotten.

A layer of many channels on few pixels has far more weights than pixels. Prepared beforehand (`packed`) they would take four to eleven times
their memory, and as long to write and to read again as the products take. Here the input of all images is transformed first; then every
thread takes a panel of channels out, transforms its weights, and makes these channels of all images.

Weights are transformed in float32: that adds about a third to the mean rounding error.
"""
# pyright: basic, reportArgumentType=false, reportCallIssue=false
# numba's decorators change a function's signature in ways that the type checker cannot follow

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from . import compiled
from .before import CHANNEL, Before, to_steps
from .cooktoom import F42, F43
from .emitter import INDEX, Emitter
from .geometry import CHUNK, PRODUCT_PADDING, Block, Source, Target, count_tiles
from .layers import PLAIN_POINTS, check_memory, count_left, count_products, count_window
from .moments import PARTS, join_moments
from .packed import EVEN, ODD, PHASES, THREE, fold_taps
from .plane import Plane
from .pool import Pool, Scratch
from .product import ROWS, multiply
from .program import Program, build_program
from .steps import LANES, POINTS, split, to_pointer
from .turning import turn_rows

TAPS = 9
DEPTH = 64  # channels in of a panel whose weights are transformed at once: with all points they stay in the second cache
PANEL_PADDING = 16  # numbers between two points of a panel: at a power of two apart they would all fall into one set of the cache
MOST = 18_000_000  # bytes of transformed input at once, or one row of tiles: about half of the last cache
# The transforms of kernels, along rows and columns: of plain ones, then of the phases of an enlarged image.
HALVES = [build_program(fold_taps(F42, taps)) for taps in (EVEN, ODD)]
KERNELS = [(build_program(fold_taps(F43, THREE)),) * 2, *((HALVES[row], HALVES[column]) for row, column in PHASES)]


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image of a batch: what is read and written, what comes before, what is added last (it may be `target`), and the bias."""

    source: Plane
    target: Plane
    bias: np.ndarray
    before: Before | None = None
    residual: Plane | None = None


@intrinsic
@no_type_check
def transform_kernel(typing, source, at, target, place, which, kind):
    """The transform of the kernels of a vector of channels out: nine vectors of `source`, two vectors apart, to points x points of them.

    place = (to, step in `target`); `which` counts KERNELS.
    """

    def emit(context, builder, signature, values):
        emitter = Emitter(builder, signature.args[5][0].count)
        base, target = (to_pointer(context, builder, signature.args[index], values[index]) for index in (0, 2))
        place = split(builder, values[3], 2)
        taps = [emitter.load(base, emitter.add(values[1], emitter.number(2 * emitter.lanes * index))) for index in range(TAPS)]
        end = builder.append_basic_block("transformed")
        choice = builder.switch(values[4], end)
        for number, programs in enumerate(KERNELS):
            block = builder.append_basic_block(f"kernel{number}")
            choice.add_case(ir.Constant(INDEX, number), block)
            builder.position_at_end(block)
            emit_kernel(emitter, programs, taps, target, place)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(source, types.int64, target, place, types.int64, kind), emit


def emit_kernel(emitter: Emitter, programs: tuple[Program, Program], taps: list[Any], target: Any, place: list[Any]) -> None:
    rows, columns = programs
    to, step = place
    halves = [emitter.run(rows, taps[column::3]) for column in range(3)]
    for row, parts in enumerate(zip(*halves, strict=True)):
        for column, value in enumerate(emitter.run(columns, parts)):
            number = emitter.number(row * len(rows.results) + column)
            emitter.store(value, target, emitter.add(to, emitter.builder.mul(number, step)))


@njit(nogil=True, cache=True)
@no_type_check
def transform_panel(weight, turned, target, place, kind):
    """target[point][channel in][two vectors of channels out] of DEPTH channels in, or as many as there are.

    `weight` [out, in, 9] lies with the taps last, in `turned` the channels out are last; place = (first channel out, first channel in,
    channels in, which transform).
    """
    first, begin, channels, which = place
    lanes = len(kind[0])
    wide = 2 * lanes
    depth, row = min(DEPTH, channels - begin), channels * TAPS
    turn_rows(weight, first * row + begin * TAPS, row, depth * TAPS, turned, 0, kind)
    for channel in range(depth):
        for half in range(0, wide, lanes):
            to = (channel * wide + half, DEPTH * wide + PANEL_PADDING)
            transform_kernel(turned, channel * TAPS * wide + half, target, to, which, kind)


@njit(nogil=True, cache=True)
@no_type_check
def multiply_panel(left, weights, start, target, sizes, kind):
    """The products of all points with DEPTH channels of a panel, begun or, without `start`, gone on with.

    sizes = (points, tiles, channels in, the first of these, where the target begins, what is from point to point in the left matrix).
    """
    points, tiles, channels, begin, to, left_point = sizes
    wide = 2 * len(kind[0])
    depth = min(DEPTH, channels - begin)
    for point in range(points):
        for tile in range(0, tiles, ROWS):
            read = point * left_point + tile * channels + begin
            write = to + point * (tiles * wide + PRODUCT_PADDING) + tile * wide
            place = (read, channels, point * (DEPTH * wide + PANEL_PADDING), depth, write, wide, 0)
            multiply(left, weights, start, target, place, min(ROWS, tiles - tile), kind)


@njit(nogil=True, cache=True)
@no_type_check
def stream_panel(weight, lefts, turned, weights, zeros, products, place, kind):
    """The products of one panel with all pieces; lefts = (transformed input, and int64 [pieces, 4] of where each begins, its tiles, from
    point to point, and where its products begin); place = (first channel out, channels in, points of a tile, which transform).
    """
    first, channels, points, which = place
    shared, places = lefts
    for begin in range(0, channels, DEPTH):
        transform_panel(weight, turned, weights, (first, begin, channels, which), kind)
        for piece in range(len(places)):
            left = shared[places[piece, 0] :]
            sizes = (points, places[piece, 1], channels, begin, places[piece, 3], places[piece, 2])
            if begin == 0:
                multiply_panel(left, weights, zeros, products, sizes, kind)
            else:
                multiply_panel(left, weights, None, products, sizes, kind)


@dataclass(frozen=True)
class Piece:
    """Rows of tiles of one image; its transformed input lies from `begin` up to `end` of the buffer."""

    image: int
    block: Block
    begin: int
    end: int

    @property
    def tiles(self) -> int:
        return self.block.rows * self.block.columns


def cut_groups(images: int, tiles: tuple[int, int], channels: int, points: int) -> Iterator[list[Piece]]:
    """All rows of tiles of all images, in groups of about the same size of at most MOST bytes."""
    (down, across), lines = tiles, images * tiles[0]
    groups = -(-4 * lines * points**2 * across * channels // MOST)
    step = -(-lines // groups)
    for begin in range(0, lines, step):
        end, at, pieces = min(begin + step, lines), 0, []
        for image in range(begin // down, (end - 1) // down + 1):
            first, last = max(begin - image * down, 0), min(end - image * down, down)
            size = count_left(channels, points, (last - first) * across)
            pieces.append(Piece(image, Block(first, last - first, 0, across), at, at + size))
            at += size
        yield pieces


def fits(channels: int, outputs: int, lanes: int) -> bool:
    """Whether vectors of `lanes` divide a layer's channels."""
    return bool(lanes) and channels % lanes == 0 and outputs % (2 * lanes) == 0


def count_streamed(height: int, width: int, channels: int, *, lanes: int, enlarge: bool, threads: int) -> int:
    """Float32 numbers that all threads together work in while an image of `height` x `width` is read."""
    points, wide = F42.inputs if enlarge else F43.inputs, 2 * lanes
    most = 0
    for pieces in cut_groups(1, count_tiles((0, height * (2 if enlarge else 1)), width, points), channels, points):
        products = sum(count_products(points, piece.tiles, wide) for piece in pieces)
        block = pieces[0].block
        own = products + sum(count_window(points, block.rows, block.columns))
        most = max(most, pieces[-1].end + threads * own)
    return most + threads * (points**2 * (DEPTH * wide + PANEL_PADDING) + DEPTH * TAPS * wide)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A layer while it runs. `weight` is flat, [out, in, 3, 3]; `shared` is the transformed input of a group of pieces."""

    weight: np.ndarray
    images: Sequence[Image]
    enlarge: bool
    lanes: int
    pool: Pool
    parts: list[list[np.ndarray]] = field(default_factory=list)

    @property
    def channels(self) -> int:
        return self.images[0].source.channels

    @property
    def outputs(self) -> int:
        return self.images[0].target.channels

    @property
    def points(self) -> int:
        return F42.inputs if self.enlarge else F43.inputs

    @property
    def kind(self) -> tuple[Any, Any]:
        return LANES[self.lanes], POINTS[self.points]

    def run(self) -> None:
        source, target = self.images[0].source, self.images[0].target
        tiles = count_tiles((0, target.height), source.width, self.points)
        self.parts.extend([] for _ in self.images)
        for pieces in cut_groups(len(self.images), tiles, self.channels, self.points):
            shared = self.pool.scratches[0].take("shared", pieces[-1].end)
            self.transform(pieces, shared)
            self.multiply(pieces, shared)
        for image, found in zip(self.images, self.parts, strict=True):
            image.target.moments = join_moments(np.concatenate(found).reshape(-1, PARTS, self.outputs))

    def transform(self, pieces: list[Piece], shared: np.ndarray) -> None:
        """The input of all pieces, some channels of a piece at a time."""
        steps = [to_steps(image.before, self.channels) for image in self.images]

        def work(scratch: Scratch, item: tuple[Piece, int]) -> None:
            piece, begin = item
            source, (how, table) = self.images[piece.image].source, steps[piece.image]
            window = scratch.take("window", sum(count_window(self.points, piece.block.rows, piece.block.columns)))
            where = Source(source.height, source.width, source.channels)
            target, which = shared[piece.begin : piece.end], (begin, self.kind)
            compiled.transform_chunk(source.pixels.reshape(-1), table, how, target, window, where, piece.block, which)

        self.pool.run(work, [(piece, begin) for begin in range(0, self.channels, CHUNK) for piece in pieces])

    def multiply(self, pieces: list[Piece], shared: np.ndarray) -> None:
        """All channels out of these pieces, a panel at a time."""
        wide, phases = 2 * self.lanes, PHASES if self.enlarge else PHASES[:1]
        sums = [np.zeros((len(phases), PARTS * self.outputs)) for _ in pieces]
        ends = np.cumsum([0, *(count_products(self.points, piece.tiles, wide) for piece in pieces)])
        steps = [(piece.end - piece.begin) // self.points**2 for piece in pieces]
        places = np.array([[piece.begin, piece.tiles, step, end] for piece, step, end in zip(pieces, steps, ends[:-1], strict=True)])
        zeros = np.zeros(wide, np.float32)

        def work(scratch: Scratch, item: tuple[int, int]) -> None:
            channel, phase = item
            weights = scratch.take("panel", self.points**2 * (DEPTH * wide + PANEL_PADDING))
            turned, products = scratch.take("turned", DEPTH * TAPS * wide), scratch.take("products", int(ends[-1]))
            place = (channel, self.channels, self.points**2, 1 + phase if self.enlarge else 0)
            stream_panel(self.weight, (shared, places), turned, weights, zeros, products, place, (LANES[self.lanes], PLAIN_POINTS))
            for piece, end, found in zip(pieces, ends, sums, strict=False):
                self.finish(piece, products[end:], channel, phase, found[phase])

        self.pool.run(work, [(channel, phase) for channel in range(0, self.outputs, wide) for phase in range(len(phases))])
        for piece, found in zip(pieces, sums, strict=True):
            self.parts[piece.image].append(found)

    def finish(self, piece: Piece, products: np.ndarray, channel: int, phase: int, sums: np.ndarray) -> None:
        """From the products of one panel to pixels."""
        image, target = self.images[piece.image], self.images[piece.image].target
        step, places = (2, PHASES[phase]) if self.enlarge else (1, (0, 0))
        to = Target(0, target.height, target.width, target.channels, 0, step, *places, channel, 2 * self.lanes)
        added = None if image.residual is None else image.residual.pixels.reshape(-1)
        compiled.transform_output(products, image.bias, added, target.pixels.reshape(-1), sums, to, piece.block, self.kind)


def convolve_streamed(weight: np.ndarray, images: Sequence[Image], *, lanes: int, enlarge: bool = False, pool: Pool) -> None:
    """A 3x3 convolution with a border of zeros of whole images of one size, or of them with every pixel repeated twice each way.

    `weight` is contiguous, float32 [out, in, 3, 3]. Writes the targets and leaves their moments. Raises ValueError where planes or channels
    do not fit together, and for channel norm.
    """
    outputs, channels, *kernel = weight.shape
    step = 2 if enlarge else 1
    if kernel != [3, 3] or weight.dtype != np.float32 or not weight.flags.c_contiguous or not fits(channels, outputs, lanes):
        raise ValueError(f"{weight.dtype} kernels {weight.shape} cannot be streamed with vectors of {lanes}")
    size = images[0].source.pixels.shape
    for image in images:
        source, target = image.source, image.target
        found, expected = target.pixels.shape, (step * source.height, step * source.width, outputs)
        if source.pixels.shape != size or size[2] != channels or found != expected or source.rows != (0, source.height):
            raise ValueError(f"a layer {channels} -> {outputs} makes {expected} of {source.pixels.shape}, not {found}")
        if to_steps(image.before, channels)[0][0] == CHANNEL or image.bias.shape != (outputs,):
            raise ValueError("a streamed layer has a bias for every channel, and no channel norm before it")
        check_memory(source, target, image.residual)
    Stream(weight=weight.reshape(-1), images=images, enlarge=enlarge, lanes=lanes, pool=pool).run()
