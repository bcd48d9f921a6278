"""Writing LLVM code for vectors of float32: what one step of a kernel is made of.

A compiler left alone with 36 pointers and strides known only at run time does not vectorise; here the vectors are named one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from .program import Program

INDEX = ir.IntType(64)
FLOAT = ir.FloatType()
LOG2_E = 1.4426950408889634
LN2 = (0.693359375, -2.12194440e-4)  # ln 2 in two parts; the first has few bits, so that its multiples are exact
EXP = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)  # e^x for |x| < 0.35, highest power first: error 5e-9
LARGEST = 87.0  # e^87 is still a float32


class Emitter:
    """Vector operations at the place where `builder` stands. A vector has `lanes` numbers; pointers are to float32."""

    def __init__(self, builder: Any, lanes: int) -> None:
        self.builder = builder
        self.lanes = lanes
        self.vector = ir.VectorType(FLOAT, lanes)
        self.integers = ir.VectorType(ir.IntType(32), lanes)

    def number(self, value: int) -> Any:
        return ir.Constant(INDEX, value)

    def add(self, *indices: Any) -> Any:
        total, *rest = indices
        for index in rest:
            total = self.builder.add(total, index)
        return total

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.lanes)

    def spread(self, scalar: Any) -> Any:
        """A vector of `lanes` times the same number."""
        empty = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(self.integers, [0] * self.lanes))

    def load_scalar(self, base: Any, at: Any) -> Any:
        return self.builder.load(self.builder.gep(base, [at]))

    def load(self, base: Any, at: Any) -> Any:
        pointer = self.builder.bitcast(self.builder.gep(base, [at]), self.vector.as_pointer())
        return self.builder.load(pointer, align=4)

    def store(self, value: Any, base: Any, at: Any) -> None:
        pointer = self.builder.bitcast(self.builder.gep(base, [at]), self.vector.as_pointer())
        self.builder.store(value, pointer, align=4)

    def prefetch(self, base: Any, at: Any) -> None:
        """Ask for the cache line at a place, which may even lie outside of the array."""
        small, pointer = ir.IntType(32), self.builder.gep(base, [at])
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, small, small, small])
        module, full = self.builder.module, "llvm.prefetch.p0"
        function = module.globals.get(full) or ir.Function(module, kind, full)
        self.builder.call(function, [pointer, *(ir.Constant(small, value) for value in (0, 3, 1))])  # to read, to keep, data

    def call(self, name: str, *values: Any) -> Any:
        """One of LLVM's own vector functions, all of whose arguments are vectors."""
        kind = ir.FunctionType(self.vector, [self.vector] * len(values))
        module, full = self.builder.module, f"{name}.v{self.lanes}f32"
        function = module.globals.get(full) or ir.Function(module, kind, full)
        return self.builder.call(function, values)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, in one operation where the CPU has it."""
        return self.call("llvm.fmuladd", a, b, c)

    def join(self, *ways: tuple[Any, Any]) -> Any:
        """A vector after branches have met: (value, the block it comes from) of each."""
        joined = self.builder.phi(self.vector)
        for value, block in ways:
            joined.add_incoming(value, block)
        return joined

    def cut(self, value: Any, begin: int, size: int) -> Any:
        """Some neighbouring numbers of a vector, as a shorter one."""
        places = ir.Constant(ir.VectorType(ir.IntType(32), size), [*range(begin, begin + size)])
        return self.builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), places)

    def greater(self, a: Any, b: Any) -> Any:
        """The greater of two, `b` where either is not a number: one instruction, unlike LLVM's maxnum."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def sum(self, values: Sequence[Any]) -> Any:
        """As a tree: shorter chains, and a smaller rounding error than one after the other."""
        values = list(values)
        while len(values) > 1:
            pairs = [self.builder.fadd(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
            values = pairs + values[len(pairs) * 2 :]
        return values[0]

    def run(self, program: Program, values: Sequence[Any]) -> list[Any]:
        """The vector code of a straight-line program."""
        known = list(values)
        for terms in program.lines:
            total = None
            for factor, number in terms:
                value = known[number]
                if total is None:
                    total = value if factor == 1 else self.builder.fmul(value, self.constant(float(factor)))
                elif abs(factor) == 1:
                    total = (self.builder.fadd if factor == 1 else self.builder.fsub)(total, value)
                else:
                    total = self.multiply_add(value, self.constant(float(factor)), total)
            known.append(self.constant(0.0) if total is None else total)
        return [known[number] for number in program.results]

    def exp(self, x: Any) -> Any:
        """e^x for |x| <= LARGEST, to about one unit in the last place."""
        whole = self.call("llvm.rint", self.builder.fmul(x, self.constant(LOG2_E)))
        rest = x
        for part in LN2:
            rest = self.multiply_add(whole, self.constant(-part), rest)
        total = self.constant(EXP[0])
        for coefficient in EXP[1:]:
            total = self.multiply_add(total, rest, self.constant(coefficient))
        exponent = self.builder.add(self.builder.fptosi(whole, self.integers), ir.Constant(self.integers, [127] * self.lanes))
        power = self.builder.shl(exponent, ir.Constant(self.integers, [23] * self.lanes))
        return self.builder.fmul(total, self.builder.bitcast(power, self.vector))

    def silu(self, x: Any) -> Any:
        """x / (1 + e^-x); below -LARGEST what it is there, next to nothing. What is not a number stays that."""
        least = self.constant(-LARGEST)
        number = self.builder.select(self.builder.fcmp_ordered("<", x, least), least, x)
        power = self.exp(self.call("llvm.maxnum", self.builder.fneg(number), least))
        return self.builder.fdiv(number, self.builder.fadd(self.constant(1.0), power))
