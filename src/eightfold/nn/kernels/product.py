"""The inner kernel of the products: a few rows times two vectors of columns, with all sums in registers.

The error of a sum in float32 grows with the root of its steps: over 512 channels that was nearly all of the error of a layer. So channels
are added up in pieces, and then the pieces, which takes one addition in LEVEL and makes that error less than half as large. Where a CPU has
32 registers the sums of both fit into them; with 16 the totals wait in the first cache.
"""
# pyright: basic, reportArgumentType=false, reportCallIssue=false
# numba's decorators change a function's signature in ways that the type checker cannot follow

from __future__ import annotations

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .emitter import INDEX, Emitter
from .steps import split, to_pointer

ROWS = 6  # 6 x 2 sums, 2 vectors of weights and one spread number fit into 16 registers
UNROLL = 4
LEVEL = 64  # channels of a piece: what half as many would gain is lost in the error of the transforms
AHEAD = 16  # steps that weights are asked for in advance; only with vectors of 8, where it was measured to help (with 16 it did harm)

Sums = list[list[Any]]


def emit_piece(emitter: Emitter, bases: tuple[Any, ...], place: tuple[Any, ...], span: tuple[Any, Any]) -> tuple[Sums, Any]:
    """The sums over the channels of a `span`, for each row two vectors, and where they end; place = (the rows' places, panel)."""
    (left, right), (rows_at, panel), (begin, end) = bases, place, span
    builder, lanes = emitter.builder, emitter.lanes
    entry, loop, done = builder.block, builder.append_basic_block("depth"), builder.append_basic_block("piece")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(INDEX)
    k.add_incoming(begin, entry)
    phis = [[builder.phi(emitter.vector) for _ in range(2)] for _ in rows_at]
    sums: Sums = [list(pair) for pair in phis]
    for unrolled in range(UNROLL):
        position = emitter.add(k, emitter.number(unrolled))
        weights = emitter.add(panel, builder.mul(position, emitter.number(2 * lanes)))
        columns = [emitter.load(right, emitter.add(weights, emitter.number(half * lanes))) for half in range(2)]
        if lanes == 8:
            emitter.prefetch(right, emitter.add(weights, emitter.number(AHEAD * 2 * lanes)))
        for index, row in enumerate(rows_at):
            one = emitter.spread(emitter.load_scalar(left, emitter.add(row, position)))
            sums[index] = [emitter.multiply_add(one, column, total) for column, total in zip(columns, sums[index], strict=True)]
    following = emitter.add(k, emitter.number(UNROLL))
    k.add_incoming(following, loop)
    for pair, made in zip(phis, sums, strict=True):
        for phi, value in zip(pair, made, strict=True):
            phi.add_incoming(emitter.constant(0.0), entry)
            phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, end), loop, done)
    builder.position_at_end(done)
    return sums, following


def emit_product(emitter: Emitter, rows: int, bases: list[Any], place: list[Any]) -> None:
    """`rows` rows of the left matrix times two vectors of columns; without a `start` they are added to what is in the target."""
    left, right, start, target = bases
    at, row, panel, depth, to, target_row, begin = place
    builder, lanes = emitter.builder, emitter.lanes
    lines = [emitter.add(to, builder.mul(emitter.number(index), target_row)) for index in range(rows)]
    origins = [(target, line) for line in lines] if start is None else [(start, begin)]
    firsts = [[emitter.load(base, emitter.add(place, emitter.number(half * lanes))) for half in range(2)] for base, place in origins]
    firsts *= rows // len(firsts)
    rows_at = [emitter.add(at, builder.mul(emitter.number(index), row)) for index in range(rows)]
    entry, pieces, done = builder.block, builder.append_basic_block("pieces"), builder.append_basic_block("done")
    builder.branch(pieces)
    builder.position_at_end(pieces)
    k = builder.phi(INDEX)
    k.add_incoming(emitter.number(0), entry)
    totals = [[builder.phi(emitter.vector) for _ in range(2)] for _ in range(rows)]
    far = emitter.add(k, emitter.number(LEVEL))
    end = builder.select(builder.icmp_signed("<", far, depth), far, depth)
    sums, following = emit_piece(emitter, (left, right), (rows_at, panel), (k, end))
    k.add_incoming(following, builder.block)
    results = [
        [builder.fadd(total, value) for total, value in zip(pair, made, strict=True)] for pair, made in zip(totals, sums, strict=True)
    ]
    for pair, made, first in zip(totals, results, firsts, strict=True):
        for half in range(2):
            pair[half].add_incoming(first[half], entry)
            pair[half].add_incoming(made[half], builder.block)
    builder.cbranch(builder.icmp_signed("<", following, depth), pieces, done)
    builder.position_at_end(done)
    for line, made in zip(lines, results, strict=True):
        for half in range(2):
            emitter.store(made[half], target, emitter.add(line, emitter.number(half * lanes)))


@intrinsic
@no_type_check
def multiply(typing, left, right, start, target, place, rows, kind):
    """`rows` (1 to ROWS) rows times a panel of two vectors of columns, begun at `start` instead of zero, or with None at the target itself.

    place = (at, row step, panel, depth, to, row step of the target, at in start); depth is a multiple of UNROLL and not 0.
    """

    def emit(context, builder, signature, values):
        emitter = Emitter(builder, signature.args[6][0].count)
        given = zip(signature.args, values, strict=True)
        bases = [None if isinstance(one, types.NoneType) else to_pointer(context, builder, one, value) for one, value in list(given)[:4]]
        place = split(builder, values[4], 7)
        end = builder.append_basic_block("end")
        choice = builder.switch(values[5], end)
        for count in range(1, ROWS + 1):
            block = builder.append_basic_block(f"rows{count}")
            choice.add_case(ir.Constant(INDEX, count), block)
            builder.position_at_end(block)
            emit_product(emitter, count, bases, place)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(left, right, start, target, place, types.int64, kind), emit
