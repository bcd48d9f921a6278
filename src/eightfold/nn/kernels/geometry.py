"""Where a kernel reads and writes: plain tuples of whole numbers, which compiled code takes apart without cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

CHUNK = 32  # channels that the input transform takes at once, so that what it works on stays in the second cache
POINT_PADDING = 32  # numbers between two points: at a power of two apart they would all fall into one set of the cache
PRODUCT_PADDING = 16
ROW = 12  # pixels of a linear map whose moments are gathered at once
# Channels and pixels of a layer from which large tiles were measured to be faster, even with weights prepared for one run alone.
WIDE, MANY = 96, 96 * 96
LARGE, SIDES = 8, (4, 6)  # points of large tiles; results of a tile along each axis, of others and of large ones
Edge = Literal["zeros", "repeat"]  # what a convolution reads around an image


def to_side(points: int) -> int:
    """Results of a tile along each axis: 6 of 8 points, 4 of 6 (three taps) or of 5 (two)."""
    return SIDES[1] if points == LARGE else SIDES[0]


def choose_points(channels: int, outputs: int, pixels: int) -> int:
    """For a 3x3 layer that makes so many pixels: 8 points, which need a fifth fewer multiplications, or 6.

    Weights for 8 points take 16/9 of the memory, and as much longer to prepare and to read; with few channels the transforms are most of
    the work. The choice does not depend on the CPU, so that the pixels do not either.
    """
    return LARGE if min(channels, outputs) >= WIDE and pixels >= MANY else 6


class Source(NamedTuple):
    """What is read: an image of height x width x channels, of which the buffer holds the rows from `first_row` on. Around it are zeros, or
    with `repeat` = 1 its edge again and again.
    """

    height: int
    width: int
    channels: int
    first_row: int = 0
    repeat: int = 0


class Target(NamedTuple):
    """What is written: rows `low` up to `high` of an image, into a buffer that begins with row `first_row`.

    A tile's pixel (k, l) goes to row step * (side * t + k) - row_phase and the column found likewise: step is 1, or 2 for one phase of an
    enlarged image. The channels from `channel` on are written, as many as there are `columns` of products.
    """

    low: int
    high: int
    width: int
    channels: int
    first_row: int = 0
    step: int = 1
    row_phase: int = 0
    column_phase: int = 0
    channel: int = 0
    columns: int = 0


class Block(NamedTuple):
    """Tiles worked on together: `rows` x `columns` of them, from tile (`row`, `column`) on."""

    row: int
    rows: int
    column: int
    columns: int


class Shape(NamedTuple):
    """A batch of products, one for each point: tiles x depth times depth x columns.

    The steps are numbers between two points, `left_row` and `target_row` between two rows; `left` and `target` is where to begin, `panel`
    the first panel of weights and `panels` how many a point has.
    """

    points: int
    tiles: int
    depth: int
    columns: int
    left: int
    left_point: int
    left_row: int
    target: int
    target_point: int
    target_row: int
    panel: int
    panels: int


def cut_blocks(tiles: tuple[int, int], sides: tuple[int, int], first_row: int = 0) -> Iterator[Block]:
    """Blocks of at most `sides` tiles that cover `tiles` rows and columns of tiles, the rows from `first_row` on."""
    for row in range(first_row, tiles[0], sides[0]):
        for column in range(0, tiles[1], sides[1]):
            yield Block(row, min(sides[0], tiles[0] - row), column, min(sides[1], tiles[1] - column))


def count_tiles(rows: tuple[int, int], width: int, points: int) -> tuple[int, int]:
    """Tiles down and across that make the `rows` (from, up to) of a result, of an input of this width; with 5 points it is enlarged.

    Rows that begin inside a tile may take one tile more than as many from the top.
    """
    side = to_side(points)
    if points == 5:
        return rows[1] // (2 * side) + 1 - rows[0] // (2 * side), width // side + 1
    return -(-rows[1] // side) - rows[0] // side, -(-width // side)


def check_edge(edge: str, *, plain: bool) -> None:
    """Raises ValueError for an unknown edge, or one that is repeated where the convolution is not a `plain` one."""
    if edge not in get_args(Edge) or (edge == "repeat" and not plain):
        raise ValueError(f"a border cannot be {edge!r} here: zeros, or repeat around a convolution that keeps the size")
