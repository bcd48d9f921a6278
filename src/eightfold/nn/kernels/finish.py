"""The last step of a tile: inverse transform, bias, residual, store, and the sums that the next normalisation needs."""
# pyright: basic, reportArgumentType=false, reportCallIssue=false
# numba's decorators change a function's signature in ways that the type checker cannot follow

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, no_type_check

from numba import types
from numba.extending import intrinsic

from .emitter import Emitter
from .geometry import SIDE
from .steps import OUTPUT, split, to_pointer


def emit_inverse(emitter: Emitter, points: int, base: Any, at: Any, step: Any) -> list[Any]:
    """The 16 results of a tile, row by row, from its products: points x points vectors, `step` apart."""
    builder, program = emitter.builder, OUTPUT[points]
    columns = []
    for column in range(points):
        offsets = [builder.mul(emitter.number(row * points + column), step) for row in range(points)]
        columns.append(emitter.run(program, [emitter.load(base, emitter.add(at, offset)) for offset in offsets]))
    return [value for row in range(SIDE) for value in emitter.run(program, [column[row] for column in columns])]


def emit_sums(emitter: Emitter, values: list[Any], partial: Any, place: list[Any], count: list[Any]) -> None:
    """Add a tile to the partial sums of its channels, as distances from the mean of the block's first tile, so that nothing large cancels.

    The three parts of `partial`: that mean, the sum of the distances, the sum of their squares. However far that tile is off, the others
    are not lost: its own pixels then make up a fair part of all squares.
    """
    builder = emitter.builder
    (channel, channels), (first, inverse, kept) = place, count
    where = [channel, emitter.add(channel, channels), emitter.add(channel, channels, channels)]
    zero = emitter.constant(0.0)
    with builder.if_then(first, likely=False):
        emitter.store(builder.fmul(emitter.sum(values), emitter.spread(inverse)), partial, where[0])
        emitter.store(zero, partial, where[1])
        emitter.store(zero, partial, where[2])
    centre, sums, squares = (emitter.load(partial, at) for at in where)
    away = [builder.fsub(value, centre) for value in values]
    if kept is not None:
        away = [builder.select(keep, value, zero) for keep, value in zip(kept, away, strict=True)]
    emitter.store(builder.fadd(sums, emitter.sum(away)), partial, where[1])
    chains = [zero, squares]
    for index, value in enumerate(away):
        chains[index % 2] = emitter.multiply_add(value, value, chains[index % 2])
    emitter.store(builder.fadd(*chains), partial, where[2])


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
            emitter = Emitter(builder, lanes)
            base, offsets, target, sums = (to_pointer(context, builder, signature.args[index], values[index]) for index in (0, 1, 3, 4))
            other = to_pointer(context, builder, signature.args[2], values[2]) if has_residual else None
            parts = split(builder, values[5], 14)
            at, step, bias_at, to, row_step, column_step, channel, channels, first, *edges, inverse = parts
            added = emitter.load(offsets, bias_at)
            tile = emit_inverse(emitter, points, base, at, step)
            kept = emit_mask(emitter, edges) if masked else None
            for index in range(SIDE * SIDE):
                row, column = divmod(index, SIDE)
                place = emitter.add(to, builder.mul(emitter.number(row), row_step), builder.mul(emitter.number(column), column_step))
                value, outside = builder.fadd(tile[index], added), builder.block
                with nullcontext() if kept is None else builder.if_then(kept[index]):
                    value = value if other is None else builder.fadd(value, emitter.load(other, place))
                    emitter.store(value, target, place)
                    inside = builder.block
                tile[index] = value if kept is None else emit_join(emitter, value, inside, outside)
            is_first = builder.icmp_signed("!=", first, emitter.number(0))
            emit_sums(emitter, tile, sums, [channel, channels], [is_first, inverse, kept])
            return context.get_dummy_value()

        return types.void(products, bias, residual, result, partial, place, kind), emit

    return finish


def emit_mask(emitter: Emitter, edges: list[Any]) -> list[Any]:
    """For each pixel of a tile whether it is inside: rows and columns run from their first up to their last edge."""
    builder = emitter.builder
    inside = []
    for begin, end in (edges[:2], edges[2:]):
        numbers = [emitter.number(index) for index in range(SIDE)]
        inside.append([builder.and_(builder.icmp_signed(">=", one, begin), builder.icmp_signed("<", one, end)) for one in numbers])
    return [builder.and_(row, column) for row in inside[0] for column in inside[1]]


def emit_join(emitter: Emitter, value: Any, inside: Any, outside: Any) -> Any:
    """After the code for a pixel that is inside only: its value, or zero where that code was jumped over."""
    joined = emitter.builder.phi(emitter.vector)
    joined.add_incoming(value, inside)
    joined.add_incoming(emitter.constant(0.0), outside)
    return joined


finish_whole, finish_edge = build_finisher(False), build_finisher(True)
