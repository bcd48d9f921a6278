"""Straight-line code: the same as its matrix, with fewer operations."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightfold.nn.kernels.cooktoom import F42, F43, F63
from eightfold.nn.kernels.program import build_program, count_operations, run_program

SMALL = st.integers(-3, 3).map(Fraction)
MATRICES = st.integers(1, 6).flatmap(
    lambda width: st.lists(st.lists(SMALL, min_size=width, max_size=width).map(tuple), min_size=1, max_size=6)
)
KNOWN = [getattr(transform, name) for transform in (F43, F42, F63) for name in ("input", "output", "kernel")]


def apply(matrix, values):
    return [sum((a * b for a, b in zip(row, values, strict=True)), start=Fraction(0)) for row in matrix]


def to_unit(size, index):
    return [Fraction(place == index) for place in range(size)]


def check(matrix):
    """A linear map is known by what it does to the units."""
    program, size = build_program(tuple(matrix)), len(matrix[0])
    for index in range(size):
        assert run_program(program, to_unit(size, index)) == apply(matrix, to_unit(size, index))


@given(matrix=MATRICES)
def test_any_matrix(matrix):
    check(matrix)


@given(matrix=MATRICES, signs=st.lists(st.sampled_from([-1, 1]), min_size=6, max_size=6))
def test_rows_and_columns_in_pairs(matrix, signs):
    check([*matrix, *(tuple(sign * entry for sign, entry in zip(signs, row, strict=False)) for row in matrix)])
    check([(*row, *(sign * entry for entry in row)) for sign, row in zip(signs, matrix, strict=False)])


@pytest.mark.parametrize("matrix", KNOWN)
def test_the_transforms_themselves(matrix):
    check(matrix)


@pytest.mark.parametrize(
    ("matrix", "most"), [(F43.input, 12), (F43.output, 12), (F42.input, 10), (F42.output, 11), (F63.input, 24), (F63.output, 20)]
)
def test_what_pairs_share_is_worked_out_once(matrix, most):
    plain = sum(sum(entry != 0 for entry in row) - any(abs(entry) == 1 for entry in row) for row in matrix)
    assert count_operations(build_program(matrix)) <= most < plain
