"""The kernels against torch in float64: every width of vector, ragged sizes, one-pixel images, outliers, means far above the spread."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from eightfold.nn.kernels.before import Before
from eightfold.nn.kernels.check import find_difference
from eightfold.nn.kernels.direct import activate_directly, convolve_directly
from eightfold.nn.kernels.geometry import choose_points
from eightfold.nn.kernels.layers import apply_linear, choose_block, convolve
from eightfold.nn.kernels.moments import add_moments, measure_moments, to_affine
from eightfold.nn.kernels.packed import choose_lanes, pack_weights
from eightfold.nn.kernels.plane import Plane, build_plane, from_plane, from_planes, to_planes
from eightfold.nn.kernels.pool import Pool
from eightfold.nn.kernels.ready import find_lanes
from eightfold.nn.stages import ResidualBlock, Up, run_stages

WIDTHS = [lanes for lanes in (4, 8, 16) if lanes <= max(8, find_lanes())]
SIDES = st.integers(1, 21)
ALLOWED = 3e-5  # of the largest exact result


@pytest.fixture(scope="module")
def pool():
    return Pool(2)


@st.composite
def cases(draw):
    """A layer and its input: (input [1, c, h, w], weight, bias, whether it is normalised first)."""
    lanes = draw(st.sampled_from(WIDTHS))
    channels, outputs = lanes * draw(st.integers(1, 5)), draw(st.integers(1, 70))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    mean, spread = draw(st.sampled_from([(0.0, 1.0), (3.0, 0.5), (1e3, 0.1)]))
    x = torch.randn(1, channels, draw(SIDES), draw(SIDES), generator=random) * spread + mean
    if draw(st.booleans()):
        x.view(-1)[draw(st.integers(0, x.numel() - 1))] = draw(st.sampled_from([1e3, -1e3]))
    weight = torch.randn(outputs, channels, 3, 3, generator=random) / (3 * channels**0.5)
    return lanes, x, weight, torch.randn(outputs, generator=random), draw(st.booleans()) and x.shape[2:] != (1, 1)


POINTS = st.sampled_from([6, 8])  # of tiles of 4 or 6 results


def normalise(plane):
    """A normalisation of the whole plane with weights of its own."""
    random, channels = np.random.default_rng(1), plane.channels
    return to_affine(measure_moments(plane.pixels), 2, random.standard_normal(channels) + 1, random.standard_normal(channels), 1e-6)


def follow(norm, plane):
    """A normalisation of a network, from the moments that a plane came with."""
    return Before(affine=to_affine(plane.moments, norm.num_groups, norm.weight.numpy(), norm.bias.numpy(), norm.eps), silu=True)


def check(ours, exact, outputs, points=6):
    """Pixels, and the moments of just those pixels; whatever is stored beyond the layer's own channels is zero."""
    largest = float(np.abs(exact.pixels).max())
    assert float(np.abs(ours.pixels[..., :outputs] - exact.pixels).max()) <= ALLOWED * (4 if points == 8 else 1) * max(largest, 1)
    assert not ours.pixels[..., outputs:].any()
    check_moments(ours.moments, ours.pixels)


def check_moments(found, pixels):
    exact = measure_moments(pixels)
    assert found.count == exact.count
    spread = np.sqrt(exact.squares / exact.count) + 1e-6 * (1 + np.abs(exact.mean))
    assert (np.abs(found.mean - exact.mean) <= 1e-4 * spread).all()
    assert (np.abs(found.squares - exact.squares) <= 1e-4 * exact.count * spread**2).all()
    largest, unit = np.abs(pixels - exact.mean).max(axis=(0, 1)), 1e-6 * (1 + np.abs(pixels).max(axis=(0, 1)))
    assert (found.peak >= largest - unit).all()
    assert (found.peak <= 3 * largest + 100 * unit).all()


@settings(max_examples=60)
@given(case=cases(), points=POINTS)
def test_a_convolution(case, points, pool):
    lanes, x, weight, bias, normalised = case
    plane = to_planes(x)[0]
    before = Before(affine=normalise(plane), silu=True) if normalised else None
    packed = pack_weights(weight.numpy(), bias.numpy(), lanes=lanes, pool=pool, points=points)
    exact = convolve_directly(weight.double(), bias.double(), plane, before=before)
    check(convolve(packed, plane, before=before, pool=pool), exact, len(weight), points)


@settings(max_examples=40)
@given(case=cases(), points=POINTS)
def test_a_convolution_over_what_it_is_added_to(case, points, pool):
    lanes, x, weight, bias, _ = case
    packed = pack_weights(weight.numpy(), bias.numpy(), lanes=lanes, pool=pool, points=points)
    plane, target = to_planes(x)[0], build_plane(*x.shape[2:], packed.stored)
    target.pixels[:] = np.random.default_rng(2).standard_normal(target.pixels.shape)
    target.pixels[..., packed.outputs :] = 0
    exact = convolve_directly(weight.double(), bias.double(), plane, residual=target)
    assert convolve(packed, plane, target, residual=target, pool=pool) is target
    check(target, exact, len(weight), points)


@settings(max_examples=40)
@given(case=cases())
def test_an_enlarging_convolution(case, pool):
    lanes, x, weight, bias, _ = case
    plane = to_planes(x)[0]
    packed = pack_weights(weight.numpy(), bias.numpy(), lanes=lanes, pool=pool, enlarge=True)
    check(convolve(packed, plane, pool=pool), convolve_directly(weight.double(), bias.double(), plane, enlarge=True), len(weight))


@settings(max_examples=40)
@given(case=cases(), silu=st.booleans())
def test_a_linear_map_of_every_pixel(case, silu, pool):
    lanes, x, weight, bias, normalised = case
    plane, point = to_planes(x)[0], weight[:, :, 1:2, 1:2].contiguous()
    first = Before(affine=normalise(plane) if normalised else None, silu=silu)
    packed = pack_weights(point.numpy(), bias.numpy(), lanes=lanes, pool=pool)
    before = replace(plane, pixels=activate_directly(from_plane(plane).double(), first)[0].permute(1, 2, 0).numpy())
    exact = convolve_directly(point.double(), bias.double(), before)
    ours = apply_linear(packed, plane, before=first, pool=pool)
    assert np.abs(ours.pixels[..., : len(weight)] - exact.pixels).max() <= ALLOWED * max(1, np.abs(exact.pixels).max())


@pytest.mark.parametrize("lanes", WIDTHS)
def test_silu_is_that_of_float64(lanes, pool):
    """Over all numbers that a network meets and far beyond, where e^x is no float32 any more."""
    values = np.concatenate([np.linspace(-30, 30, 60_000), np.linspace(-3e4, 3e4, 30_000), [0.0, -0.0, 3e38, -3e38]]).astype(np.float32)
    x = np.resize(values, (1, -(-len(values) // 64), 64))
    plane = Plane(pixels=x, height=1)
    plain = np.concatenate([np.zeros(64), np.ones(64), np.zeros(64)]).astype(np.float32)
    unit = pack_weights(np.eye(64, dtype=np.float32)[:, :, None, None], None, lanes=lanes, pool=pool)
    ours = apply_linear(unit, plane, before=Before(affine=plain, silu=True), pool=pool).pixels
    exact = torch.nn.functional.silu(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(ours, exact, rtol=4e-7, atol=1e-35)


def test_what_is_not_a_number_stays_visible(pool):
    x = torch.randn(1, 16, 12, 12)
    x[0, 3, 5, 5] = torch.nan
    packed = pack_weights(np.ones((16, 16, 3, 3)), None, lanes=8, pool=pool)
    ours = convolve(packed, to_planes(x)[0], before=Before(silu=True), pool=pool)
    assert np.isnan(ours.pixels[4:7, 4:7]).all()
    assert np.isnan(ours.moments.mean).all()


def test_moments_of_channels_far_from_zero(pool):
    """A sum of squares in float32 would be all rounding here."""
    weight, bias = torch.randn(32, 16, 3, 3) * 1e-3, torch.full((32,), 1e3)
    ours = convolve(pack_weights(weight.numpy(), bias.numpy(), lanes=8, pool=pool), to_planes(torch.randn(1, 16, 67, 35))[0], pool=pool)
    assert 1e-3 < np.sqrt(ours.moments.squares / ours.moments.count).max() < 0.1
    check_moments(ours.moments, ours.pixels)


def test_moments_where_the_first_pixel_is_the_outlier(pool):
    x = torch.randn(1, 16, 40, 40)
    x[0, :, 0, 0] = 1e3
    weight = torch.randn(32, 16, 3, 3)
    ours = convolve(pack_weights(weight.numpy(), None, lanes=8, pool=pool), to_planes(x)[0], pool=pool)
    check_moments(ours.moments, ours.pixels)


@pytest.mark.parametrize(("enlarge", "points"), [(False, 6), (False, 8), (True, 6)])
def test_pixels_do_not_depend_on_threads_or_vectors(enlarge, points):
    x, weight = torch.randn(1, 32, 37, 50), torch.randn(32, 32, 3, 3)
    results = []
    for lanes, threads in ((8, 1), (8, 9), (WIDTHS[-1], 2)):
        pool = Pool(threads)
        packed = pack_weights(weight.numpy(), None, lanes=lanes, pool=pool, enlarge=enlarge, points=points)
        results.append(convolve(packed, to_planes(x)[0], pool=pool))
    for other in results[1:]:
        assert np.array_equal(other.pixels, results[0].pixels)
        np.testing.assert_allclose(other.moments.squares, results[0].moments.squares, rtol=1e-5)


def test_with_the_same_number_of_threads_moments_are_the_same_bit_for_bit(pool):
    x, weight = to_planes(torch.randn(1, 16, 90, 70))[0], np.random.default_rng(0).standard_normal((16, 16, 3, 3))
    packed = pack_weights(weight, None, lanes=8, pool=pool)
    first, *others = (convolve(packed, x, pool=pool).moments for _ in range(5))
    for other in others:
        assert np.array_equal(other.mean, first.mean)
        assert np.array_equal(other.squares, first.squares)


def test_small_planes_are_cut_finer_for_many_threads():
    assert [choose_block(32, 6, (16, 16), threads)[0] for threads in (1, 2, 4, 64)] == [(8, 16), (8, 8), (4, 8), (4, 4)]


def test_weights_go_into_a_buffer_that_is_large_enough(pool):
    weight, x = torch.randn(16, 16, 3, 3), to_planes(torch.randn(1, 16, 9, 9))[0]
    own = pack_weights(weight.numpy(), None, lanes=8, pool=pool)
    used = np.full(own.weights.size + 5, np.nan, np.float32)
    packed = pack_weights(weight.numpy(), None, lanes=8, pool=pool, into=used)
    assert packed.weights is used
    assert np.array_equal(convolve(packed, x, pool=pool).pixels, convolve(own, x, pool=pool).pixels)
    assert pack_weights(weight.numpy(), None, lanes=8, pool=pool, into=used[:7]).weights.size == own.weights.size


@pytest.mark.parametrize(("enlarge", "points"), [(False, 6), (False, 8), (True, 6)])
def test_strips_are_the_whole_bit_for_bit(enlarge, points, pool):
    """Written in strips of rows, from strips that hold no more rows than are read."""
    x, weight, scale = torch.randn(1, 16, 40, 19), torch.randn(16, 16, 3, 3), 2 if enlarge else 1
    packed = pack_weights(weight.numpy(), None, lanes=8, pool=pool, enlarge=enlarge, points=points)
    plane = to_planes(x)[0]
    whole = convolve(packed, plane, pool=pool)
    parts = []
    for begin, end in ((0, 16), (16, 24), (24, 40)):
        first, last = max(0, begin - 5), min(40, end + 5)  # a strip may begin and end inside a tile
        strip = Plane(pixels=plane.pixels[first:last].copy(), height=40, first_row=first)
        part = build_plane(40 * scale, 19 * scale, 16, (begin * scale, end * scale))
        assert np.array_equal(convolve(packed, strip, part, pool=pool).pixels, whole.pixels[begin * scale : end * scale])
        parts.append(part.moments)
    total = add_moments(*parts)
    np.testing.assert_allclose(total.mean, whole.moments.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(total.squares, whole.moments.squares, rtol=1e-5)


def test_a_batch_is_its_images_one_by_one(pool):
    x, weight = torch.randn(3, 16, 9, 6), torch.randn(16, 16, 3, 3)
    packed = pack_weights(weight.numpy(), None, lanes=8, pool=pool)
    ours = from_planes([convolve(packed, plane, pool=pool) for plane in to_planes(x)])
    assert torch.allclose(ours, torch.conv2d(x, weight, padding=1), atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("outputs", [32, 64])
def test_a_residual_block_whose_norms_follow_from_what_was_written(outputs, pool):
    """Block, enlargement, block, as a decoder has them; after the first plane nothing is measured."""
    blocks, up = [ResidualBlock(32, outputs, groups=4, eps=1e-6), ResidualBlock(outputs, outputs, groups=4, eps=1e-6)], Up(outputs)
    x = torch.randn(1, 32, 13, 10) + 2
    exact = run_stages([blocks[0].double(), up.double(), blocks[1].double()], x.double())
    pack = partial(pack_weights, lanes=8, pool=pool)
    plane = to_planes(x)[0]
    plane.moments = measure_moments(plane.pixels)
    for index, block in enumerate(blocks):
        if index:
            plane = convolve(pack(up.conv.weight.numpy(), up.conv.bias.numpy(), enlarge=True), plane, pool=pool)
        first, second, shortcut = (
            (one.weight.numpy(), one.bias.numpy()) for one in (block.conv1, block.conv2, block.conv_shortcut or block.conv1)
        )
        hidden = convolve(pack(*first), plane, before=follow(block.norm1, plane), pool=pool)
        if block.conv_shortcut is not None:
            plane = apply_linear(pack(*shortcut), plane, pool=pool)
        plane = convolve(pack(*second), hidden, plane, before=follow(block.norm2, hidden), residual=plane, pool=pool)
    assert (from_plane(plane) - exact).abs().max() < ALLOWED * exact.abs().max()
    check_moments(plane.moments, plane.pixels)


def test_halving_pads_to_the_right_and_below():
    x, weight, bias = torch.randn(1, 5, 8, 11), torch.randn(7, 5, 3, 3), torch.randn(7)
    ours = convolve_directly(weight, bias, to_planes(x)[0], stride=2)
    padded = torch.nn.functional.pad(x, (0, 1, 0, 1))
    assert torch.allclose(from_plane(ours), torch.conv2d(padded, weight, bias, stride=2), atol=1e-5)
    check_moments(ours.moments, ours.pixels)


def test_torch_keeps_its_threads_through_a_layer(pool):
    before = torch.get_num_threads()
    convolve(pack_weights(np.ones((16, 8, 3, 3)), None, lanes=8, pool=pool), to_planes(torch.randn(1, 8, 30, 30))[0], pool=pool)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("channels", "outputs", "widest", "lanes"),
    [(512, 512, 16, 16), (512, 3, 16, 8), (24, 64, 16, 8), (4, 512, 16, 0), (4, 64, 4, 4), (128, 128, 8, 8), (6, 8, 4, 0)],
)
def test_a_layer_gets_the_vectors_that_fit(channels, outputs, widest, lanes):
    assert choose_lanes(channels, outputs, widest) == lanes


def test_large_tiles_are_for_many_channels_and_many_pixels():
    found = [choose_points(*layer) for layer in ((128, 128, 512 * 512), (512, 512, 64 * 64), (128, 3, 512 * 512), (64, 128, 512 * 512))]
    assert found == [8, 6, 6, 6]


@pytest.mark.parametrize("shape", [(16, 12, 3, 3), (16, 16, 5, 5), (16, 16, 3, 1)])
def test_weights_without_a_fast_way_are_refused(shape, pool):
    with pytest.raises(ValueError, match="no fast way"):
        pack_weights(np.zeros(shape, np.float32), None, lanes=8, pool=pool)


def test_points_that_no_transform_has_are_refused(pool):
    with pytest.raises(ValueError, match="with 7 points"):
        pack_weights(np.zeros((16, 16, 3, 3), np.float32), None, lanes=8, pool=pool, points=7)


def test_planes_that_do_not_fit_are_refused(pool):
    packed = pack_weights(np.zeros((16, 16, 3, 3)), None, lanes=8, pool=pool)
    plane = build_plane(12, 8, 16)
    with pytest.raises(ValueError, match="cannot write over its own input"):
        convolve(packed, plane, plane, pool=pool)
    with pytest.raises(ValueError, match="16 -> 16"):
        convolve(packed, build_plane(12, 8, 8), pool=pool)
    with pytest.raises(ValueError, match="16 -> 16"):
        convolve(packed, plane, build_plane(12, 9, 16), pool=pool)
    with pytest.raises(ValueError, match="what is added"):
        convolve(packed, plane, residual=build_plane(11, 8, 16), pool=pool)
    with pytest.raises(ValueError, match="the input holds 0 to 4"):
        convolve(packed, Plane(pixels=plane.pixels[:4], height=12), pool=pool)
    with pytest.raises(ValueError, match="1x1 layer"):
        apply_linear(packed, plane, pool=pool)


def test_the_self_check_passes_and_can_fail(monkeypatch):
    assert find_difference([8]) == ""
    monkeypatch.setattr("eightfold.nn.kernels.check.ALLOWED", 1e-9)
    assert "a convolution with vectors of 8 is off by" in find_difference([8])


def test_errors_do_not_grow_with_the_channels(pool):
    """Added up one by one they would: to 2e-6 of the results' spread for 512 channels, and four times that in large tiles."""
    for channels, points, most in ((64, 6, 1.2e-6), (512, 6, 1.2e-6), (64, 8, 4e-6), (512, 8, 4e-6)):
        x, weight = torch.randn(1, channels, 24, 24), torch.randn(32, channels, 3, 3) / (3 * channels**0.5)
        ours = convolve(pack_weights(weight.numpy(), None, lanes=8, pool=pool, points=points), to_planes(x)[0], pool=pool)
        exact = convolve_directly(weight.double(), None, to_planes(x)[0])
        error = float((from_plane(ours) - from_plane(exact)).square().mean().sqrt())
        assert error < most * float(from_plane(exact).std())
