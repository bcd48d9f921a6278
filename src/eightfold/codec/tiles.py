"""Large pictures in tiles that overlap and are blended into each other: little memory, but not what the network gives for the whole.

A norm takes its statistics from what it sees, and a convolution sees nothing beyond the tile's edge, so tones may drift from tile to tile;
overlaps and ramps hide the seams, they do not remove the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import RequestError
from ..core.progress import Progress

Parts = tuple[Tensor, ...]
Report = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Span:
    """One tile along one axis, in cells: what it covers (`start` to `stop`), and what it adds to the result (`begin` to `end`).

    At `begin` it fades in over the overlap, where the tile before it fades out; that one ends there. So `end` is the next tile's `begin`.
    """

    start: int
    stop: int
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The tiles of `height` x `width` cells, all of one size, and how many pixels a cell has on the way in and out."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    overlap: int
    scale_in: int
    scale_out: int

    @property
    def count(self) -> int:
        return len(self.rows) * len(self.columns)


def decode_tiled(
    decode: Callable[[Tensor], Tensor],
    raw: Float[Tensor, "1 c h w"],
    *,
    downscale: int,
    tile: int = 64,
    overlap: int = 8,
    report: Report | None = None,
) -> Float[Tensor, "1 c2 h2 w2"]:
    """A raw latent to its image, `tile` x `tile` cells at a time, neighbours blended linearly over `overlap` cells.

    The last tiles are moved inwards, so that all are of one size. What fits in one tile is decoded whole, and is `decode`'s own.
    Memory: the image and one tile, on the device and in the dtype of what `decode` gives. `report` is called after each tile. Raises
    RequestError for an overlap of more than half a tile, and a `decode` that does not enlarge by `downscale`.
    """
    grid = to_grid(raw.shape[-2], raw.shape[-1], tile, overlap, scale_in=1, scale_out=downscale)
    (image,) = run_tiles(lambda part: (decode(part),), raw, grid, report)
    return image


def encode_tiled(
    encode: Callable[[Tensor], Parts],
    image: Float[Tensor, "1 c h w"],
    *,
    downscale: int,
    tile: int = 64,
    overlap: int = 8,
    report: Report | None = None,
) -> Parts:
    """An image, sides a multiple of `downscale`, to its posterior: the mean and the standard deviation, each put together like an image.

    `tile` and `overlap` count cells here too; all else is as for `decode_tiled`. `encode` gives one tensor or more of the latent's size.
    """
    height, width = image.shape[-2:]
    if height % downscale or width % downscale:
        raise RequestError(f"an image of {width}x{height} in cells of {downscale}", hint="pad it to a multiple of the downscale first")
    return run_tiles(
        encode, image, to_grid(height // downscale, width // downscale, tile, overlap, scale_in=downscale, scale_out=1), report
    )


def to_grid(height: int, width: int, tile: int, overlap: int, *, scale_in: int = 1, scale_out: int = 1) -> Grid:
    """The tiles that `height` x `width` cells take. Raises RequestError for an overlap that two tiles cannot share."""
    if tile < 1 or not 0 <= overlap <= tile // 2:
        raise RequestError(f"tiles of {tile} cells that overlap by {overlap}", hint="an overlap is at most half a tile")
    rows, columns = (tuple(list_spans(length, tile, overlap)) for length in (height, width))
    return Grid(rows=rows, columns=columns, overlap=overlap, scale_in=scale_in, scale_out=scale_out)


def list_spans(length: int, tile: int, overlap: int) -> Iterator[Span]:
    """Tiles along an axis of `length` cells, each `tile` long, or one of the whole length where that is less."""
    start = begin = 0
    while start + tile < length:
        end = start + tile - overlap
        yield Span(start=start, stop=start + tile, begin=begin, end=end)
        start, begin = min(end, length - tile), end
    yield Span(start=start, stop=length, begin=begin, end=length)


def run_tiles(work: Callable[[Tensor], Parts], whole: Tensor, grid: Grid, report: Report | None) -> Parts:
    """`work` on each tile, row by row, and its answers put together.

    A tile gives the result its columns once: those that the next one fades into are carried over to it. So every place is blended across
    first and then down, equal tiles stay as they are to the bit, and nothing of a tile is held while the next is worked on but these.
    """
    results: Parts = ()
    carried: Parts = ()
    number = 0
    for row in grid.rows:
        for column in grid.columns:
            piece = take(whole, row.start, row.stop, column.start, column.stop, grid.scale_in)
            results, carried = add_tile(work(piece), results, carried if column.start else (), row, column, grid)
            number += 1
            if report is not None:
                report(Progress(task="tiles", number=number, total=grid.count))
    return results


def add_tile(parts: Parts, results: Parts, carried: Parts, row: Span, column: Span, grid: Grid) -> tuple[Parts, Parts]:
    """The results, which the first tile makes, and what the next tile fades into."""
    require_size(parts, row, column, grid)
    if grid.count == 1:
        return parts, ()
    if not results:
        height, width = grid.rows[-1].stop * grid.scale_out, grid.columns[-1].stop * grid.scale_out
        results = tuple(part.new_empty(*part.shape[:2], height, width) for part in parts)
    for index, (result, part) in enumerate(zip(results, parts, strict=True)):
        paste(result, part, carried[index] if carried else None, row, column, grid)
    return results, tuple(cut_ahead(part, column, grid) for part in parts)


def take(whole: Tensor, top: int, bottom: int, left: int, right: int, scale: int) -> Tensor:
    return whole[..., top * scale : bottom * scale, left * scale : right * scale]


def cut_ahead(part: Tensor, column: Span, grid: Grid) -> Tensor:
    """The columns that the next tile fades into, of their own memory; none for the last."""
    return part[..., (column.end - column.start) * grid.scale_out :].clone()


def paste(result: Tensor, part: Tensor, carried: Tensor | None, row: Span, column: Span, grid: Grid) -> None:
    """Put what a tile adds into the result, faded over what is there."""
    left = (column.begin - column.start) * grid.scale_out
    right = (column.end - column.start) * grid.scale_out
    place = column.begin * grid.scale_out
    if carried is not None:
        fading = part[..., left : left + carried.shape[-1]]
        lay(result, torch.lerp(carried, fading, build_ramp(fading, -1)), row, place, grid)
        left, place = left + carried.shape[-1], place + carried.shape[-1]
    lay(result, part[..., left:right], row, place, grid)


def lay(result: Tensor, piece: Tensor, row: Span, place: int, grid: Grid) -> None:
    """Columns of a tile, from the row on where it begins to count, at column `place` of the result."""
    top, ramp = (row.begin - row.start) * grid.scale_out, grid.overlap * grid.scale_out if row.start else 0
    there = result[..., row.begin * grid.scale_out : row.stop * grid.scale_out, place : place + piece.shape[-1]]
    fading = piece[..., top : top + ramp, :]
    there[..., :ramp, :].lerp_(fading, build_ramp(fading, -2))
    there[..., ramp:, :].copy_(piece[..., top + ramp :, :])


def build_ramp(like: Tensor, axis: int) -> Tensor:
    """Weights of what fades in along an axis: from near 0 to near 1 in even steps, those at the two ends adding up to 1."""
    count = like.shape[axis]
    weights = (torch.arange(count, device=like.device, dtype=torch.float32) + 0.5) / max(count, 1)
    return weights.to(like.dtype).reshape((-1, 1) if axis == -2 else (1, -1))


def require_size(parts: Parts, row: Span, column: Span, grid: Grid) -> None:
    sides = (row.stop - row.start, column.stop - column.start)
    expected = (sides[0] * grid.scale_out, sides[1] * grid.scale_out)
    for part in parts:
        if tuple(part.shape[-2:]) != expected:
            what = f"a tile of {sides[1]}x{sides[0]} cells became {part.shape[-1]}x{part.shape[-2]}, expected {expected[1]}x{expected[0]}"
            raise RequestError(what, hint="the downscale is another one")
