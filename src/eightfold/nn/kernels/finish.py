"""The last step of a tile: inverse transform, bias, residual, store, and the sums that the next normalisation needs."""
# pyright: basic, reportArgumentType=false, reportCallIssue=false
# numba's decorators change a function's signature in ways that the type checker cannot follow

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, no_type_check

from numba import types
from numba.extending import intrinsic

from .emitter import Emitter
from .geometry import ROW, to_side
from .steps import OUTPUT, split, to_pointer


def emit_inverse(emitter: Emitter, points: int, base: Any, at: Any, step: Any) -> list[Any]:
    """The results of a tile, row by row, from its products: points x points vectors, `step` apart."""
    builder, program = emitter.builder, OUTPUT[points]
    columns = []
    for column in range(points):
        offsets = [builder.mul(emitter.number(row * points + column), step) for row in range(points)]
        columns.append(emitter.run(program, [emitter.load(base, emitter.add(at, offset)) for offset in offsets]))
    return [value for row in range(to_side(points)) for value in emitter.run(program, [column[row] for column in columns])]


def emit_sums(emitter: Emitter, values: list[Any], partial: Any, place: list[Any], count: list[Any]) -> None:
    """Add a tile to the partial sums of its channels, as distances from the mean of the block's first tile, so that nothing large cancels.

    The four parts of `partial`: that mean, the sum of the distances, the sum of their squares, the largest of them. However far that tile
    is off, the others are not lost: its own pixels then make up a fair part of all squares.
    """
    builder = emitter.builder
    (channel, channels), (first, inverse, kept) = place, count
    where = [channel]
    for _ in range(3):
        where.append(emitter.add(where[-1], channels))
    zero = emitter.constant(0.0)
    with builder.if_then(first, likely=False):
        emitter.store(builder.fmul(emitter.sum(values), emitter.spread(inverse)), partial, where[0])
        for at in where[1:]:
            emitter.store(zero, partial, at)
    centre, sums, squares, peak = (emitter.load(partial, at) for at in where)
    away = [builder.fsub(value, centre) for value in values]
    if kept is not None:
        away = [builder.select(keep, value, zero) for keep, value in zip(kept, away, strict=True)]
    emitter.store(builder.fadd(sums, emitter.sum(away)), partial, where[1])
    chains, peaks = [zero, squares], [peak, zero]
    for index, value in enumerate(away):
        chains[index % 2] = emitter.multiply_add(value, value, chains[index % 2])
        peaks[index % 2] = emitter.greater(emitter.call("llvm.fabs", value), peaks[index % 2])
    emitter.store(builder.fadd(*chains), partial, where[2])
    emitter.store(emitter.greater(*peaks), partial, where[3])


@intrinsic
@no_type_check
def finish_pixels(typing, source, residual, result, partial, place, kind):
    """ROW pixels or less, one vector of channels: result = source + residual, and their sums. `residual` may be None, and nothing is
    written then.

    place = (at in `source`; at in `residual` and `result`; channel and channels, which is also from pixel to pixel; whether these are the
    first pixels; how many, and 1 / that).
    """
    has_residual = not isinstance(residual, types.NoneType)

    def emit(context, builder, signature, values):
        emitter = Emitter(builder, signature.args[5][0].count)
        base, target, sums = (to_pointer(context, builder, signature.args[index], values[index]) for index in (0, 2, 3))
        at, to, channel, channels, first, count, inverse = split(builder, values[4], 7)
        kept = [builder.icmp_signed("<", emitter.number(index), count) for index in range(ROW)]
        steps = [
            builder.select(inside, builder.mul(emitter.number(index), channels), emitter.number(0)) for index, inside in enumerate(kept)
        ]
        pixels = [emitter.load(base, emitter.add(at, step)) for step in steps]  # in place of a pixel that is not there the first again
        if has_residual:
            other = to_pointer(context, builder, signature.args[1], values[1])
            added = [emitter.load(other, emitter.add(to, step)) for step in steps]
            pixels = [builder.fadd(pixel, one) for pixel, one in zip(pixels, added, strict=True)]
            for pixel, step in zip(pixels, steps, strict=True):
                emitter.store(pixel, target, emitter.add(to, step))
        pixels = [builder.select(inside, pixel, emitter.constant(0.0)) for inside, pixel in zip(kept, pixels, strict=True)]
        is_first = builder.icmp_signed("!=", first, emitter.number(0))
        emit_sums(emitter, pixels, sums, [channel, channels], [is_first, inverse, kept])
        return context.get_dummy_value()

    return types.void(source, residual, result, partial, place, kind), emit


def build_finisher(masked: bool) -> Any:
    @intrinsic
    @no_type_check
    def finish(typing, products, bias, residual, result, partial, place, kind):
        """One tile, one vector of channels. `residual` may be None or the same array as `result`.

        place = (at and point step in `products`; at in `bias`; at, row step and column step in `result`; channel and channels of `partial`;
        whether this is the first tile; the rows and columns inside the picture, from and to; 1 / the number of pixels that these are).
        """
        has_residual = not isinstance(residual, types.NoneType)

        def emit(context, builder, signature, values):
            lanes, points = (part.count for part in signature.args[6])
            emitter, side = Emitter(builder, lanes), to_side(points)
            base, offsets, target, sums = (to_pointer(context, builder, signature.args[index], values[index]) for index in (0, 1, 3, 4))
            other = to_pointer(context, builder, signature.args[2], values[2]) if has_residual else None
            parts = split(builder, values[5], 14)
            at, step, bias_at, to, row_step, column_step, channel, channels, first, *edges, inverse = parts
            added = emitter.load(offsets, bias_at)
            tile = emit_inverse(emitter, points, base, at, step)
            kept = emit_mask(emitter, edges, side) if masked else None
            for index in range(side * side):
                row, column = divmod(index, side)
                place = emitter.add(to, builder.mul(emitter.number(row), row_step), builder.mul(emitter.number(column), column_step))
                value, outside = builder.fadd(tile[index], added), builder.block
                with nullcontext() if kept is None else builder.if_then(kept[index]):
                    value = value if other is None else builder.fadd(value, emitter.load(other, place))
                    emitter.store(value, target, place)
                    inside = builder.block
                tile[index] = value if kept is None else emitter.join((value, inside), (emitter.constant(0.0), outside))
            is_first = builder.icmp_signed("!=", first, emitter.number(0))
            emit_sums(emitter, tile, sums, [channel, channels], [is_first, inverse, kept])
            return context.get_dummy_value()

        return types.void(products, bias, residual, result, partial, place, kind), emit

    return finish


def emit_mask(emitter: Emitter, edges: list[Any], side: int) -> list[Any]:
    """For each pixel of a tile whether it is inside: rows and columns run from their first up to their last edge."""
    builder = emitter.builder
    inside = []
    for begin, end in (edges[:2], edges[2:]):
        numbers = [emitter.number(index) for index in range(side)]
        inside.append([builder.and_(builder.icmp_signed(">=", one, begin), builder.icmp_signed("<", one, end)) for one in numbers])
    return [builder.and_(row, column) for row in inside[0] for column in inside[1]]


finish_whole, finish_edge = build_finisher(False), build_finisher(True)
