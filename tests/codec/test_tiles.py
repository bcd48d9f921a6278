"""Tiles: where they lie, that blending adds nothing of its own, and what a tile more or less changes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from eightfold.codec.tiles import decode_tiled, encode_tiled, list_spans, to_grid
from eightfold.core.errors import RequestError
from eightfold.core.progress import Progress
from weights import draw

sides = st.integers(1, 41)


@st.composite
def layouts(draw_one: st.DrawFn) -> tuple[int, int]:
    tile = draw_one(st.integers(1, 16))
    return tile, draw_one(st.integers(0, tile // 2))


def enlarge(raw: Tensor) -> Tensor:
    return interpolate(raw, scale_factor=4, mode="nearest")


def shrink(image: Tensor) -> tuple[Tensor, Tensor]:
    return avg_pool2d(image, 4), image[..., ::4, ::4]


@given(length=st.integers(1, 300), layout=layouts())
def test_tiles_of_one_size_cover_everything(length: int, layout: tuple[int, int]) -> None:
    tile, overlap = layout
    spans = list(list_spans(length, tile, overlap))
    assert {span.stop - span.start for span in spans} == {min(tile, length)}
    assert (spans[0].start, spans[0].begin, spans[-1].stop, spans[-1].end) == (0, 0, length, length)
    for one, other in pairwise(spans):
        assert one.end == other.begin and one.start < other.start  # the result is shared out
        assert other.start <= other.begin and other.begin + overlap <= one.stop  # and both cover where they blend
        assert other.begin + overlap <= other.end
    assert len(spans) == (1 if length <= tile else 1 + -(-(length - tile) // (tile - overlap)))


@pytest.mark.parametrize(("size", "count"), [((64, 64), 1), ((65, 64), 2), ((120, 64), 2), ((121, 64), 3), ((128, 128), 9), ((200, 90), 8)])
def test_how_many_tiles(size: tuple[int, int], count: int) -> None:
    assert to_grid(*size, 64, 8).count == count


@given(height=sides, width=sides, layout=layouts())
@settings(max_examples=60)
def test_what_depends_on_nothing_around_it_is_exact(height: int, width: int, layout: tuple[int, int]) -> None:
    tile, overlap = layout
    raw = draw(1, 3, height, width, seed=height * 50 + width)
    assert torch.equal(decode_tiled(enlarge, raw, downscale=4, tile=tile, overlap=overlap), enlarge(raw))
    image = enlarge(raw) + draw(1, 3, height * 4, width * 4, seed=1)
    for found, expected in zip(encode_tiled(shrink, image, downscale=4, tile=tile, overlap=overlap), shrink(image), strict=True):
        assert torch.equal(found, expected)


@given(height=sides, width=sides, layout=layouts(), scale=st.sampled_from([1, 2]))
@settings(max_examples=60)
def test_the_weights_of_all_tiles_add_up_to_one(height: int, width: int, layout: tuple[int, int], scale: int) -> None:
    """Each tile gives 1 in a channel of its own, so that the result is the tiles' weights."""
    tile, overlap = layout
    grid = to_grid(height, width, tile, overlap)
    numbers = iter(range(grid.count))

    def mark(part: Tensor) -> Tensor:
        marked = torch.zeros(1, grid.count, part.shape[2] * scale, part.shape[3] * scale)
        marked[:, next(numbers)] = 1
        return marked

    weights = decode_tiled(mark, torch.zeros(1, 1, height, width), downscale=scale, tile=tile, overlap=overlap)[0]
    assert next(numbers, None) is None
    assert weights.min() >= 0 and torch.allclose(weights.sum(0), torch.ones(()), atol=1e-5)
    for weight, (row, column) in zip(weights, [(row, column) for row in grid.rows for column in grid.columns], strict=True):
        covered = torch.zeros_like(weight)
        covered[row.begin * scale : row.stop * scale, column.begin * scale : column.stop * scale] = 1
        assert torch.equal((weight > 0).float(), covered)


def test_the_ramp_is_straight() -> None:
    parts = iter([0.0, 1.0])
    strip = decode_tiled(lambda part: torch.full_like(part, next(parts)), torch.zeros(1, 1, 3, 12), downscale=1, tile=8, overlap=4)
    assert torch.equal(strip[0, 0, 1], torch.tensor([0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1]))
    parts = iter([0.0, 1.0])
    strip = decode_tiled(lambda part: torch.full_like(part, next(parts)), torch.zeros(1, 1, 9, 3), downscale=1, tile=8, overlap=2)
    assert torch.equal(strip[0, 0, :, 1], torch.tensor([0, 0, 0, 0, 0, 0, 0.25, 0.75, 1]))  # the last tile is moved inwards


@pytest.mark.parametrize(("height", "width"), [(16, 16), (3, 16), (16, 1)])
def test_what_fits_in_one_tile_is_left_alone(height: int, width: int) -> None:
    raw, given_back = draw(1, 4, height, width, seed=2), []

    def decode(part: Tensor) -> Tensor:
        assert torch.equal(part, raw)
        given_back.append(torch.sin(enlarge(part)))
        return given_back[-1]

    assert decode_tiled(decode, raw, downscale=4, tile=16, overlap=4) is given_back[0] and len(given_back) == 1


def test_an_overlap_softens_what_the_edges_do() -> None:
    """To a convolution that sees two cells far, and nothing beyond the edge of its tile."""
    kernel = draw(3, 3, 5, 5, seed=3) / 5

    def blur(part: Tensor) -> Tensor:
        return conv2d(part, kernel, padding=2)

    raw = draw(1, 3, 50, 37, seed=4)
    far = (decode_tiled(blur, raw, downscale=1, tile=16, overlap=0) - blur(raw)).abs().mean()
    near = (decode_tiled(blur, raw, downscale=1, tile=16, overlap=8) - blur(raw)).abs().mean()
    assert near < far / 4


def test_the_input_is_left_as_it_is_and_types_are_kept() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        raw = draw(1, 2, 21, 13, seed=5).to(dtype)
        before = raw.clone()
        same = decode_tiled(lambda part: part, raw, downscale=1, tile=6, overlap=2)
        assert torch.equal(raw, before) and torch.equal(same, before) and same.dtype == dtype
        assert same.data_ptr() != raw.data_ptr()


def test_progress_is_told_after_each_tile() -> None:
    seen: list[Progress] = []
    decode_tiled(enlarge, draw(1, 1, 20, 9, seed=6), downscale=4, tile=8, overlap=2, report=seen.append)
    assert [progress.number for progress in seen] == [1, 2, 3, 4, 5, 6] and {progress.total for progress in seen} == {6}
    encode_tiled(shrink, draw(1, 1, 8, 8, seed=6), downscale=4, report=seen.append)
    assert (seen[-1].number, seen[-1].total) == (1, 1)


def test_impossible_tiles() -> None:
    raw = torch.zeros(1, 1, 9, 9)
    for tile, overlap in ((0, 0), (8, 5), (8, -1), (1, 1)):
        with pytest.raises(RequestError, match="overlap"):
            decode_tiled(enlarge, raw, downscale=4, tile=tile, overlap=overlap)
    with pytest.raises(RequestError, match="8x8 cells became 32x32, expected 64x64"):
        decode_tiled(enlarge, raw, downscale=8, tile=8, overlap=2)
    with pytest.raises(RequestError, match="9x9 in cells of 4"):
        encode_tiled(shrink, raw, downscale=4)
