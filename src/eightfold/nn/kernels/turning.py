"""Rows of weights side by side: what lies along a row comes to lie across vectors."""
# pyright: basic, reportArgumentType=false, reportCallIssue=false
# numba's decorators change a function's signature in ways that the type checker cannot follow

from __future__ import annotations

from typing import Any, no_type_check

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .emitter import Emitter
from .steps import split, to_pointer


def transpose(emitter: Emitter, rows: list[Any]) -> list[Any]:
    """As many vectors as they have numbers: in each round two trade what lies `step` off the diagonal."""
    builder, lanes, rows = emitter.builder, emitter.lanes, list(rows)
    step = 1
    while step < lanes:
        upper = [place + lanes - step if place & step else place for place in range(lanes)]
        lower = [place + lanes if place & step else place + step for place in range(lanes)]
        for index in range(lanes):
            if not index & step:
                pair = rows[index], rows[index + step]
                masks = (ir.Constant(emitter.integers, mask) for mask in (upper, lower))
                rows[index], rows[index + step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        step *= 2
    return rows


@intrinsic
@no_type_check
def turn(typing, source, at, target, place, kind):
    """A square of numbers: rows of `source` that lie `row` apart become columns of `target`, vectors that lie `step` apart.

    place = (to, row, step, how far ahead the same rows are asked for). What is ahead may lie outside of the array.
    """

    def emit(context, builder, signature, values):
        emitter = Emitter(builder, signature.args[4][0].count)
        base, result = (to_pointer(context, builder, signature.args[index], values[index]) for index in (0, 2))
        to, row, step, ahead = split(builder, values[3], 4)
        places = [emitter.add(values[1], builder.mul(emitter.number(index), row)) for index in range(emitter.lanes)]
        rows = [emitter.load(base, one) for one in places]
        for one in places:
            emitter.prefetch(base, emitter.add(one, ahead))
        for index, made in enumerate(transpose(emitter, rows)):
            emitter.store(made, result, emitter.add(to, builder.mul(emitter.number(index), step)))
        return context.get_dummy_value()

    return types.void(source, types.int64, target, place, kind), emit


@njit(nogil=True, cache=True)
@no_type_check
def turn_rows(source, at, row, count, target, to, kind):
    """target[index][column] = source[column][index]: `count` numbers of two vectors of rows, `row` apart.

    `count` is a multiple of a vector. The numbers behind them are asked for meanwhile.
    """
    lanes = len(kind[0])
    for half in range(0, 2 * lanes, lanes):
        for index in range(0, count, lanes):
            turn(source, at + half * row + index, target, (to + index * 2 * lanes + half, row, 2 * lanes, count), kind)
