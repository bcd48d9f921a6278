"""Convolutions and linear maps that transform their weights where they use them, against torch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

pytest.importorskip("numba")

from eightfold.nn.kernels import linear, streamed
from eightfold.nn.kernels.before import Before
from eightfold.nn.kernels.direct import convolve_directly
from eightfold.nn.kernels.layers import gather_moments
from eightfold.nn.kernels.linear import apply_rows, fits_linear
from eightfold.nn.kernels.moments import measure_moments, to_affine
from eightfold.nn.kernels.plane import build_plane, to_planes
from eightfold.nn.kernels.pool import Pool
from eightfold.nn.kernels.ready import find_lanes
from eightfold.nn.kernels.streamed import Image, convolve_streamed, cut_groups, fits

WIDTHS = [lanes for lanes in (4, 8, 16) if lanes <= max(8, find_lanes())]
SIDES = st.integers(1, 19)
ALLOWED = 3e-5  # of the largest exact result


@st.composite
def batches(draw):
    """(lanes, inputs [b, c, h, w], weight, biases [b, o], whether they are normalised first)."""
    lanes = draw(st.sampled_from(WIDTHS))
    channels, outputs = lanes * draw(st.integers(1, 9)), 2 * lanes * draw(st.integers(1, 3))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(draw(st.integers(1, 3)), channels, draw(SIDES), draw(SIDES), generator=random) + draw(st.sampled_from([0.0, 3.0]))
    weight = torch.randn(outputs, channels, 3, 3, generator=random) / (3 * channels**0.5)
    return lanes, x, weight, torch.randn(len(x), outputs, generator=random), draw(st.booleans()) and x.shape[2:] != (1, 1)


def build_images(x, biases, size, normed):
    """Each image with a bias of its own."""
    befores = []
    for plane in to_planes(x):
        ones = np.ones(plane.channels)
        befores.append(Before(affine=to_affine(measure_moments(plane.pixels), 2, ones, 0.3 * ones, 1e-6), silu=True) if normed else None)
    targets = [build_plane(*size, biases.shape[1]) for _ in x]
    for target in targets:
        target.pixels[:] = np.nan
    pairs = zip(to_planes(x), targets, biases, befores, strict=True)
    return [Image(source=source, target=target, bias=bias.numpy(), before=before) for source, target, bias, before in pairs]


def check(image, weight, enlarge=False, residual=None):
    bias = torch.from_numpy(image.bias).double()
    exact = convolve_directly(weight.double(), bias, image.source, before=image.before, enlarge=enlarge, residual=residual)
    assert np.abs(image.target.pixels - exact.pixels).max() <= ALLOWED * np.abs(exact.pixels).max()
    found, true = image.target.moments, exact.moments
    assert found.count == true.count
    np.testing.assert_allclose(found.mean, true.mean, atol=ALLOWED * np.abs(exact.pixels).max())
    np.testing.assert_allclose(found.squares, true.squares, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("enlarge", [False, True])
@pytest.mark.parametrize("most", [1, 50_000, streamed.MOST])
@settings(max_examples=12)
@given(batch=batches(), threads=st.integers(1, 3))
def test_any_batch_in_any_groups(batch, threads, most, enlarge):
    lanes, x, weight, biases, normed = batch
    scale = 2 if enlarge else 1
    images = build_images(x, biases, (scale * x.shape[2], scale * x.shape[3]), normed and not enlarge)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streamed, "MOST", most)
        convolve_streamed(weight.numpy(), images, lanes=lanes, enlarge=enlarge, pool=Pool(threads))
    for image in images:
        check(image, weight, enlarge)


def test_written_over_what_is_added():
    lanes = WIDTHS[-1]
    x, weight, added = torch.randn(2, 2 * lanes, 9, 6), torch.randn(2 * lanes, 2 * lanes, 3, 3) / 20, torch.randn(2, 2 * lanes, 9, 6)
    before, targets = to_planes(added), to_planes(added)
    bias = torch.randn(2 * lanes).numpy()
    images = [Image(source=one, target=to, bias=bias, residual=to) for one, to in zip(to_planes(x), targets, strict=True)]
    convolve_streamed(weight.numpy(), images, lanes=lanes, pool=Pool(2))
    for image, residual in zip(images, before, strict=True):
        check(image, weight, residual=residual)


@given(images=st.integers(1, 4), tiles=st.tuples(st.integers(1, 20), st.integers(1, 20)), channels=st.integers(1, 60))
def test_groups_cover_everything_once_and_stay_small(images, tiles, channels):
    most, points = 200_000, 6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streamed, "MOST", most)
        groups = list(cut_groups(images, tiles, 4 * channels, points))
    rows = [(piece.image, row) for pieces in groups for piece in pieces for row in range(piece.block.row, sum(piece.block[:2]))]
    assert rows == [(image, row) for image in range(images) for row in range(tiles[0])]
    line = 4 * points**2 * tiles[1] * 4 * channels
    for pieces in groups:
        padding = 4 * points**2 * streamed.compiled.POINT_PADDING * len(pieces)
        assert 4 * pieces[-1].end <= max(most, line) + line + padding
        assert [piece.begin for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]


def test_buffers_do_not_grow_with_the_layer():
    """Weights are 9.4 MB, and would be 38 MB transformed."""
    lanes, pool = WIDTHS[-1], Pool(2)
    weight, x = torch.randn(512, 512, 3, 3) / 70, torch.randn(1, 512, 8, 8)
    convolve_streamed(weight.numpy(), build_images(x, torch.randn(1, 512), (8, 8), False), lanes=lanes, pool=pool)
    shared = pool.scratches[0].buffers["shared"].nbytes
    assert shared < 4 * 36 * (4 * 512 + 64)
    assert sum(buffer.nbytes for scratch in pool.scratches for buffer in scratch.buffers.values()) - shared < 2 * 1_000_000


@pytest.mark.parametrize("enlarge", [False, True])
def test_buffers_are_counted(enlarge, monkeypatch):
    monkeypatch.setattr(streamed, "MOST", 200_000)
    lanes, pool, (height, width) = WIDTHS[-1], Pool(2), (21, 13)
    weight, x = torch.randn(64, 96, 3, 3) / 30, torch.randn(1, 96, height, width)
    size = (2 * height, 2 * width) if enlarge else (height, width)
    convolve_streamed(weight.numpy(), build_images(x, torch.randn(1, 64), size, False), lanes=lanes, enlarge=enlarge, pool=pool)
    taken = sum(buffer.size for scratch in pool.scratches for buffer in scratch.buffers.values())
    counted = streamed.count_streamed(height, width, 96, lanes=lanes, enlarge=enlarge, threads=2)
    assert taken <= counted <= 1.25 * taken


def test_what_does_not_fit():
    lanes, pool = 8, Pool(1)
    x, weight = torch.randn(1, 16, 6, 6), torch.randn(16, 16, 3, 3)
    images = build_images(x, torch.randn(1, 16), (6, 6), False)
    assert fits(16, 16, 8) and not fits(12, 16, 8) and not fits(16, 24, 8) and not fits(16, 16, 0)
    for bad in (weight[:, :8], weight[:12], weight.double(), weight[:, :, :1, :1], weight.transpose(0, 1)):
        with pytest.raises(ValueError, match=r"cannot be streamed|makes"):
            convolve_streamed(bad.numpy(), images, lanes=lanes, pool=pool)
    with pytest.raises(ValueError, match="no channel norm"):
        gamma = Before(gamma=np.ones(16, np.float32))
        image = Image(source=images[0].source, target=images[0].target, bias=images[0].bias, before=gamma)
        convolve_streamed(weight.numpy(), [image], lanes=lanes, pool=pool)
    with pytest.raises(ValueError, match="makes"):
        convolve_streamed(weight.numpy(), images, lanes=lanes, enlarge=True, pool=pool)


@pytest.mark.parametrize("lanes", WIDTHS)
@pytest.mark.parametrize("rows", [1, 5, 77, 300])
def test_linear_maps(lanes, rows, monkeypatch):
    monkeypatch.setattr(linear, "MANY", 100)
    for channels, outputs in ((lanes, 2 * lanes), (5 * lanes, 6 * lanes), (20 * lanes, 2 * lanes)):
        x, weight, bias = torch.randn(rows, channels), torch.randn(outputs, channels) / channels**0.5, torch.randn(outputs)
        for added in (bias, None):
            y = torch.full((rows, outputs), torch.nan)
            apply_rows(weight.numpy(), None if added is None else added.numpy(), x.numpy(), y.numpy(), lanes=lanes, pool=Pool(2))
            exact = F.linear(x.double(), weight.double(), None if added is None else added.double())
            assert (y - exact).abs().max() < ALLOWED * exact.abs().max()


def test_linear_maps_that_do_not_fit():
    assert fits_linear(16, 16, 8) and not fits_linear(12, 16, 8) and not fits_linear(16, 8, 8) and not fits_linear(16, 16, 0)
    x, weight, y = np.zeros((3, 16), np.float32), np.zeros((16, 16), np.float32), np.zeros((3, 16), np.float32)
    for given_x, given_y in ((x[:, :8], y), (x, y[:2]), (x, x), (x.astype(np.float64), y)):
        with pytest.raises(ValueError, match="cannot be applied"):
            apply_rows(weight, None, given_x, given_y, lanes=8, pool=Pool(1))


@pytest.mark.parametrize("lanes", WIDTHS)
def test_moments_of_a_plane_that_nobody_measured(lanes):
    plane = to_planes(torch.randn(1, 3 * lanes, 17, 31) + 100)[0]
    found, expected = gather_moments(plane, lanes=lanes, pool=Pool(2)), measure_moments(plane.pixels)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(found.squares, expected.squares, rtol=1e-4)
    assert (found.peak >= expected.peak * (1 - 1e-5)).all() and found.count == 17 * 31
    with pytest.raises(ValueError, match="do not divide"):
        gather_moments(to_planes(torch.randn(1, 6, 2, 2))[0], lanes=lanes, pool=Pool(1))
