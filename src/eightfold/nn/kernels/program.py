"""A small matrix as straight-line code: sums of few terms, with what two rows or two columns have in common worked out once.

Points come in pairs a and -a. The rows of the input matrix for such a pair are an even part plus or minus an odd part; in the output matrix
their columns are equal in even rows and opposite in odd ones. Either way a pair costs little more than one of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .cooktoom import Matrix

Terms = tuple[tuple[Fraction, int], ...]  # coefficient, and the number of the value it multiplies


@dataclass(frozen=True)
class Program:
    """Values are numbered: first the inputs, then one for each line. `results` are the numbers of those that come out."""

    inputs: int
    lines: tuple[Terms, ...]
    results: tuple[int, ...]


def run_program(program: Program, values: Sequence[Fraction]) -> list[Fraction]:
    """What a program computes, exactly: the meaning that the vector code is held to."""
    known = list(values)
    for terms in program.lines:
        known.append(sum((factor * known[number] for factor, number in terms), start=Fraction(0)))
    return [known[number] for number in program.results]


def count_operations(program: Program) -> int:
    """Additions, multiplications and multiply-adds: a line of k terms is k - 1 of them, one more where no factor is 1 or -1."""
    return sum(len(terms) - any(abs(factor) == 1 for factor, _ in terms) for terms in program.lines)


def to_terms(coefficients: Sequence[Fraction]) -> Terms:
    """Plain terms first, so that the multiply-adds have something to add to."""
    terms = [(factor, number) for number, factor in enumerate(coefficients) if factor]
    return tuple(sorted(terms, key=lambda term: (abs(term[0]) != 1, term[0] < 0)))


def find_pairs(vectors: Sequence[Sequence[Fraction]]) -> list[tuple[int, int]]:
    """Pairs of vectors whose entries are equal or opposite everywhere, both at least once, where neither is zero."""
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for i, left in enumerate(vectors):
        for j in range(i + 1, len(vectors)):
            both = list(zip(left, vectors[j], strict=True))
            alike = sum(a == b != 0 for a, b in both)
            opposite = sum(a == -b != 0 for a, b in both)
            if not {i, j} & taken and alike and opposite and alike + opposite == sum(a != 0 or b != 0 for a, b in both):
                pairs.append((i, j))
                taken |= {i, j}
    return pairs


def build_program(matrix: Matrix) -> Program:
    """Code for matrix @ values. Pairs of columns are looked for first, then pairs of rows."""
    pairs = find_pairs(list(zip(*matrix, strict=True)))
    return share_columns(matrix, pairs) if pairs else share_rows(matrix, find_pairs(matrix))


def share_columns(matrix: Matrix, pairs: Sequence[tuple[int, int]]) -> Program:
    """First the sum and the difference of each pair of inputs, then the rows over those."""
    inputs = len(matrix[0])
    lines: list[Terms] = []
    for left, right in pairs:
        lines += [((Fraction(1), left), (Fraction(1), right)), ((Fraction(1), left), (Fraction(-1), right))]
    results: list[int] = []
    for row in matrix:
        wide = [*row, *[Fraction(0)] * len(lines)]
        for index, (left, right) in enumerate(pairs):
            wide[inputs + 2 * index + (row[left] != row[right])] = row[left]
            wide[left] = wide[right] = Fraction(0)
        results.append(append_line(lines, to_terms(wide[: inputs + 2 * len(pairs)]), inputs))
    return Program(inputs, tuple(lines), tuple(results))


def share_rows(matrix: Matrix, pairs: Sequence[tuple[int, int]]) -> Program:
    """For each pair of rows their common part and their opposite part, then the sum and the difference of the two."""
    inputs = len(matrix[0])
    lines: list[Terms] = []
    results = [-1] * len(matrix)
    for upper, lower in pairs:
        even = [a if a == b else Fraction(0) for a, b in zip(matrix[upper], matrix[lower], strict=True)]
        odd = [a if a != b else Fraction(0) for a, b in zip(matrix[upper], matrix[lower], strict=True)]
        scale = next(entry for entry in reversed(odd) if entry)  # taken out, it costs nothing where the parts are put together
        same, other = (append_line(lines, to_terms(part), inputs) for part in (even, [entry / scale for entry in odd]))
        for number, factor in ((upper, scale), (lower, -scale)):
            results[number] = append_line(lines, ((Fraction(1), same), (factor, other)), inputs)
    for number, row in enumerate(matrix):
        if results[number] < 0:
            results[number] = append_line(lines, to_terms(row), inputs)
    return Program(inputs, tuple(lines), tuple(results))


def append_line(lines: list[Terms], terms: Terms, inputs: int) -> int:
    """The number of the value these terms make: that of the value itself where they are one value alone."""
    if len(terms) == 1 and terms[0][0] == 1:
        return terms[0][1]
    lines.append(terms)
    return inputs + len(lines) - 1
