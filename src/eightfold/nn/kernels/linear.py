"""Linear maps whose weights lie as torch has them: a panel of columns at a time is turned in a thread's cache, and forgotten."""
# pyright: basic, reportArgumentType=false, reportCallIssue=false
# numba's decorators change a function's signature in ways that the type checker cannot follow

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from .layers import PLAIN_POINTS
from .pool import Pool, Scratch
from .product import ROWS, multiply
from .steps import LANES
from .turning import turn_rows

NEAR = 256  # channels that are turned while the next ones are on their way
MANY = 1024  # rows that a thread takes at once


@njit(nogil=True, cache=True)
@no_type_check
def turn_panel(weight, turned, place, kind):
    """turned[channel][column] of two vectors of rows of `weight` [out, in]; place = (the first of these, channels)."""
    first, channels = place
    for begin in range(0, channels, NEAR):
        count = min(NEAR, channels - begin)
        turn_rows(weight, first * channels + begin, channels, count, turned, begin * 2 * len(kind[0]), kind)


@njit(nogil=True, cache=True)
@no_type_check
def multiply_rows(x, turned, start, y, place, kind):
    """Rows times one panel; place = (first row, behind the last, channels, first column, columns in all)."""
    begin, end, channels, first, columns = place
    for row in range(begin, end, ROWS):
        to = (row * channels, channels, 0, channels, row * columns + first, columns, first)
        multiply(x, turned, start, y, to, min(ROWS, end - row), kind)


def fits_linear(channels: int, outputs: int, lanes: int) -> bool:
    """Whether a linear map can be applied with vectors of `lanes`."""
    return bool(lanes) and channels % lanes == 0 and channels > 0 and outputs % (2 * lanes) == 0


def apply_rows(weight: np.ndarray, bias: np.ndarray | None, x: np.ndarray, y: np.ndarray, *, lanes: int, pool: Pool) -> None:
    """y = x W^T + b, of float32 [n, in], [out, in] and [out], all contiguous. Raises ValueError where they do not fit together."""
    outputs, channels = weight.shape
    together = x.shape[1:] == (channels,) and y.shape == (len(x), outputs) and (bias is None or bias.shape == (outputs,))
    plain = all(one.dtype == np.float32 and one.flags.c_contiguous for one in (weight, x, y))
    if not together or not plain or not fits_linear(channels, outputs, lanes) or np.may_share_memory(x, y):
        raise ValueError(f"weights {weight.shape} cannot be applied to {x.shape} with vectors of {lanes} to give {y.shape}")
    wide, kind = 2 * lanes, (LANES[lanes], PLAIN_POINTS)
    start = np.zeros(outputs, np.float32) if bias is None else bias
    flat, given, result = weight.reshape(-1), x.reshape(-1), y.reshape(-1)
    rows = range(0, len(x), -(-len(x) // -(-len(x) // MANY)))

    def work(scratch: Scratch, item: tuple[int, int]) -> None:
        begin, first = item
        turned = scratch.take("turned", channels * wide)
        turn_panel(flat, turned, (first, channels), kind)
        multiply_rows(given, turned, start, result, (begin, min(begin + rows.step, len(x)), channels, first, outputs), kind)

    pool.run(work, [(begin, first) for begin in rows for first in range(0, outputs, wide)])
