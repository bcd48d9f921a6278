"""Short convolutions with few multiplications, from points (Cook and Toom; Winograd 1980; for networks arXiv 1509.09308).

`outputs` results of a correlation with `taps` numbers need outputs + taps - 1 products instead of outputs * taps: both factors are
evaluated at as many points, multiplied point by point, and the result is read off. All matrices here are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Transform:
    """y = output @ ((kernel @ g) * (input @ d)): the correlation of the inputs d with the taps g, exactly.

    With m outputs, r taps and n = m + r - 1: `output` is m x n, `kernel` n x r, `input` n x n.
    """

    outputs: int
    taps: int
    output: Matrix
    kernel: Matrix
    input: Matrix

    @property
    def inputs(self) -> int:
        return self.outputs + self.taps - 1


def multiply_polynomials(left: Sequence[Fraction], right: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the product, lowest power first."""
    found = [Fraction(0)] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            found[i + j] += a * b
    return found


def expand_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of prod(x - root), lowest power first."""
    found = [Fraction(1)]
    for root in roots:
        found = multiply_polynomials(found, [-root, Fraction(1)])
    return found


def build_transform(outputs: int, taps: int, points: Sequence[Fraction | int]) -> Transform:
    """The transform for `outputs` + `taps` - 2 different finite points; the point at infinity is always the last one.

    Raises ValueError for another number of points, or for points that are not all different.
    """
    places = [Fraction(point) for point in points]
    size = outputs + taps - 1
    if len(places) != size - 1 or len(set(places)) != len(places):
        raise ValueError(f"F({outputs},{taps}) needs {size - 1} different finite points, found {len(places)}: {[*map(str, places)]}")
    others = [[other for other in places if other != place] for place in places]
    scales = [prod((place - other for other in rest), start=Fraction(1)) for place, rest in zip(places, others, strict=True)]
    last = size - 1
    return Transform(
        outputs=outputs,
        taps=taps,
        output=tuple((*(place**i for place in places), Fraction(i == outputs - 1)) for i in range(outputs)),
        kernel=(
            *(tuple(place**k / scale for k in range(taps)) for place, scale in zip(places, scales, strict=True)),
            tuple(Fraction(k == taps - 1) for k in range(taps)),
        ),
        input=(*((*expand_roots(rest), *[Fraction(0)] * (last + 1 - len(places))) for rest in others), tuple(expand_roots(places))),
    )


def spread_points(*places: Fraction) -> tuple[Fraction, ...]:
    """Each place and its opposite: pairs share most of their work."""
    return tuple(sign * place for place in places for sign in (1, -1))


# The points decide how rounding errors grow. On random tiles the usual ones, 1 and 2, make the mean error twice as large and the largest
# about four times (tests/nn/kernels/test_cooktoom.py); for six results the usual ones are the best that were found. All factors of the
# transforms of data are exact in float32.
F63 = build_transform(6, 3, (0, *spread_points(Fraction(1, 2), Fraction(1), Fraction(2))))  # 3x3 kernels, many pixels
F43 = build_transform(4, 3, (0, *spread_points(Fraction(3, 4), Fraction(3, 2))))  # 3x3 kernels
F42 = build_transform(4, 2, spread_points(Fraction(1, 2), Fraction(5, 4)))  # the 2x2 kernels that 3x3 ones become between repeated pixels
BY_INPUTS = {transform.inputs: transform for transform in (F63, F43, F42)}
