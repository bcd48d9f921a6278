"""The vector steps that kernels are made of, as numba intrinsics.

What a step is compiled for travels in the types of its arguments: `kind` is a pair of tuples whose lengths are the lanes of a vector and
the points of the transform. numba then compiles, and keeps on disk, one version of each kernel for each pair.
"""
# pyright: basic, reportArgumentType=false, reportCallIssue=false
# numba's decorators change a function's signature in ways that the type checker cannot follow

from __future__ import annotations

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .before import AFFINE, RELU, SILU
from .cooktoom import BY_INPUTS
from .emitter import INDEX, Emitter
from .program import build_program

LANES = {lanes: (0,) * lanes for lanes in (4, 8, 16)}
POINTS = {points: (0,) * points for points in BY_INPUTS}
INPUT = {points: build_program(transform.input) for points, transform in BY_INPUTS.items()}
OUTPUT = {points: build_program(transform.output) for points, transform in BY_INPUTS.items()}
WIDE, NARROW = 16, 4  # vectors that squares are added in


def to_pointer(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Where an array's numbers begin."""
    return context.make_array(kind)(context, builder, array).data


def split(builder: Any, values: Any, count: int) -> list[Any]:
    """The members of a tuple."""
    return [builder.extract_value(values, index) for index in range(count)]


@intrinsic
@no_type_check
def copy(typing, source, at, target, to, kind):
    """target[to] = source[at], one vector."""

    def emit(context, builder, signature, values):
        emitter = Emitter(builder, signature.args[4][0].count)
        bases = [to_pointer(context, builder, signature.args[index], values[index]) for index in (0, 2)]
        emitter.store(emitter.load(bases[0], values[1]), bases[1], values[3])
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64, kind), emit


@intrinsic
@no_type_check
def clear(typing, target, to, kind):
    """target[to] = 0, one vector."""

    def emit(context, builder, signature, values):
        emitter = Emitter(builder, signature.args[2][0].count)
        emitter.store(emitter.constant(0.0), to_pointer(context, builder, signature.args[0], values[0]), values[1])
        return context.get_dummy_value()

    return types.void(target, types.int64, kind), emit


@intrinsic
@no_type_check
def normalise(typing, source, at, table, place, target, to, kind):
    """target[to] = source[at], normalised and activated, one vector.

    place = (how, what follows, channel, channels, factor). Group norm: (x - centre) * scale + offset, which lie in `table` in turn. Channel
    norm: x * factor * gamma, and only gamma is in `table`.
    """

    def emit(context, builder, signature, values):
        emitter = Emitter(builder, signature.args[6][0].count)
        base, table, target = (to_pointer(context, builder, signature.args[index], values[index]) for index in (0, 2, 4))
        how, follows, channel, channels, factor = split(builder, values[3], 5)
        source = emitter.load(base, values[1])
        first = emitter.load(table, channel)
        with builder.if_else(builder.icmp_signed("==", how, emitter.number(AFFINE))) as (affine, other):
            with affine:
                scale = emitter.load(table, emitter.add(channel, channels))
                offset = emitter.load(table, emitter.add(channel, channels, channels))
                shifted = emitter.multiply_add(builder.fsub(source, first), scale, offset)
                after_affine = builder.block
            with other:
                scaled = builder.fmul(builder.fmul(source, emitter.spread(factor)), first)
                after_other = builder.block
        normal = emitter.join((shifted, after_affine), (scaled, after_other))
        before_silu = builder.block
        with builder.if_then(builder.icmp_signed("==", follows, emitter.number(SILU)), likely=True):
            active = emitter.silu(normal)
            after_silu = builder.block
        value = emitter.join((normal, before_silu), (active, after_silu))
        before_relu = builder.block
        with builder.if_then(builder.icmp_signed("==", follows, emitter.number(RELU)), likely=False):
            zero = emitter.constant(0.0)
            positive = builder.select(builder.fcmp_ordered("<", value, zero), zero, value)  # what is not a number stays that
            after_relu = builder.block
        emitter.store(emitter.join((value, before_relu), (positive, after_relu)), target, values[5])
        return context.get_dummy_value()

    return types.void(source, types.int64, table, place, target, types.int64, kind), emit


@intrinsic
@no_type_check
def add_squares(typing, source, at, count):
    """The sum of the squares of source[at : at + count]; count is a multiple of 4.

    Always 32 sums side by side, then 4, whatever vectors the CPU has: the order of an addition is seen in its last bit.
    """

    def emit(context, builder, signature, values):
        base = to_pointer(context, builder, signature.args[0], values[0])
        wide, narrow = Emitter(builder, WIDE), Emitter(builder, NARROW)
        whole = builder.and_(values[2], wide.number(-2 * WIDE))
        sums = emit_squares(wide, base, values[1], [wide.number(0), whole], 2)
        (rest,) = emit_squares(narrow, base, values[1], [whole, values[2]], 1)
        total = builder.fadd(*sums)
        for size in (8, 4):
            total = builder.fadd(wide.cut(total, 0, size), wide.cut(total, size, size))
        total = builder.fadd(total, rest)
        total = builder.fadd(wide.cut(total, 0, 2), wide.cut(total, 2, 2))
        return builder.fadd(*(builder.extract_element(total, ir.Constant(ir.IntType(32), index)) for index in range(2)))

    return types.float32(source, types.int64, types.int64), emit


def emit_squares(emitter: Emitter, base: Any, at: Any, ends: list[Any], count: int) -> list[Any]:
    """`count` vectors of sums of squares, taken in turn over the numbers from one end to the other, which may be the same place."""
    builder, step = emitter.builder, count * emitter.lanes
    entry = builder.block
    head, body, done = (builder.append_basic_block(name) for name in ("squares", "square", "squared"))
    builder.branch(head)
    builder.position_at_end(head)
    position, sums = builder.phi(INDEX), [builder.phi(emitter.vector) for _ in range(count)]
    builder.cbranch(builder.icmp_signed("<", position, ends[1]), body, done)
    builder.position_at_end(body)
    values = [emitter.load(base, emitter.add(at, position, emitter.number(index * emitter.lanes))) for index in range(count)]
    totals = [emitter.multiply_add(value, value, total) for value, total in zip(values, sums, strict=True)]
    position.add_incoming(ends[0], entry)
    position.add_incoming(emitter.add(position, emitter.number(step)), body)
    for phi, total in zip(sums, totals, strict=True):
        phi.add_incoming(emitter.constant(0.0), entry)
        phi.add_incoming(total, body)
    builder.branch(head)
    builder.position_at_end(done)
    return sums


@intrinsic
@no_type_check
def transform(typing, source, at, step, target, place, kind):
    """The input transform of `points` vectors, `step` apart in `source`; place = (to, step in `target`)."""

    def emit(context, builder, signature, values):
        lanes, points = (part.count for part in signature.args[5])
        emitter = Emitter(builder, lanes)
        base, target = (to_pointer(context, builder, signature.args[index], values[index]) for index in (0, 3))
        to, target_step = split(builder, values[4], 2)
        offsets = [builder.mul(emitter.number(index), values[2]) for index in range(points)]
        loaded = [emitter.load(base, emitter.add(values[1], offset)) for offset in offsets]
        for index, value in enumerate(emitter.run(INPUT[points], loaded)):
            emitter.store(value, target, emitter.add(to, builder.mul(emitter.number(index), target_step)))
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, target, place, kind), emit
