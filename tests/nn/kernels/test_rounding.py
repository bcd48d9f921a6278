"""The bound holds, with outliers too, and tells a layer that may be run fast from one that may not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

pytest.importorskip("numba")

from eightfold.nn.kernels.before import Before
from eightfold.nn.kernels.direct import activate_directly, convolve_directly
from eightfold.nn.kernels.layers import convolve
from eightfold.nn.kernels.moments import Moments, measure_moments, to_affine
from eightfold.nn.kernels.packed import pack_weights
from eightfold.nn.kernels.plane import from_plane, to_planes
from eightfold.nn.kernels.pool import Pool
from eightfold.nn.kernels.rounding import (
    ALLOWED,
    Gain,
    Reach,
    bound_error,
    convolve_exactly,
    measure_gain,
    predict_spread,
    should_run_directly,
    to_reach,
)

POOL = Pool(1)
CHANNELS = 32
NORMS = ("none", "group", "channel")
TILES = ((False, 6), (False, 8), (True, 5))  # whether the layer enlarges, and points of its tiles


def build(seed, tiles, outlier=0.0, kind="random"):
    """Weights [16, 32, 3, 3], packed and as they are; one of them may be an outlier."""
    weight = torch.randn(16, CHANNELS, 3, 3, generator=torch.Generator().manual_seed(seed)) / 17
    if kind == "positive":
        weight = weight.abs()
    if outlier:
        weight[3, 5, 1, 1] = outlier
    enlarge, points = tiles
    return pack_weights(weight.numpy(), None, lanes=8, pool=POOL, enlarge=enlarge, points=points), weight


def build_before(norm, moments, silu=False):
    random = np.random.default_rng(5)
    weight, bias = random.uniform(0.5, 2, CHANNELS), random.standard_normal(CHANNELS)
    if norm == "group":
        return Before(affine=to_affine(moments, 4, weight, bias, 1e-6), silu=silu)
    return Before(gamma=weight.astype(np.float32), silu=silu) if norm == "channel" else Before(relu=not silu, silu=silu)


def draw_picture(seed, mean=0.0, size=(27, 34)):
    return torch.randn(1, CHANNELS, *size, generator=torch.Generator().manual_seed(seed)) + mean


def disturb(x, seed, count, largest, whole):
    """Some numbers, or pixels in all their channels, become far off."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(count):
        row, column, channel = (int(torch.randint(side, (), generator=random)) for side in (*x.shape[2:], CHANNELS))
        if whole:
            x[0, :, row, column] *= largest
        else:
            x[0, channel, row, column] = largest
    return x


def find_error(packed, weight, plane, before=None):
    """Of the layer alone: what comes before it is done in the same way for both, as a bound of its rounding is none of the layer's."""
    active = replace(plane, pixels=activate_directly(from_plane(plane), before)[0].permute(1, 2, 0).contiguous().numpy())
    exact = convolve_directly(weight.double(), None, active, enlarge=packed.phases == 4)
    return float((from_plane(convolve(packed, active, pool=POOL)) - from_plane(exact)).abs().max())


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    tiles=st.sampled_from(TILES),
    spread=st.sampled_from([1e-3, 1.0, 1e3]),
    outliers=st.integers(0, 5),
    whole=st.booleans(),
    weight_outlier=st.sampled_from([0.0, 30.0]),
    norm=st.sampled_from(NORMS),
    kind=st.sampled_from(["random", "positive"]),
)
def test_the_bound_holds(seed, tiles, spread, outliers, whole, weight_outlier, norm, kind):
    packed, weight = build(seed % 7, tiles, weight_outlier, kind)
    plane = to_planes(disturb(draw_picture(seed), seed, outliers, 1e3, whole) * spread)[0]
    moments = measure_moments(plane.pixels)
    before = build_before(norm, moments)
    bound = bound_error(measure_gain(packed, weight, pool=POOL), to_reach(moments, before, CHANNELS))
    assert 0 < find_error(packed, weight, plane, before) <= bound


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    tiles=st.sampled_from(TILES),
    whole=st.booleans(),
    largest=st.floats(1, 5).map(lambda power: 10**power),
    norm=st.sampled_from(NORMS),
    silu=st.booleans(),
)
def test_with_an_outlier_what_is_left_to_the_fast_way_is_as_exact_as_was_asked_for(seed, tiles, whole, largest, norm, silu):
    packed, weight = build(seed % 7, tiles)
    plane = to_planes(disturb(draw_picture(seed), seed, 1, largest, whole))[0]
    moments = measure_moments(plane.pixels)
    before, gain = build_before(norm, moments, silu), measure_gain(packed, weight, pool=POOL)
    allowed = ALLOWED * predict_spread(gain, moments, before)
    if not should_run_directly(gain, to_reach(moments, before, CHANNELS), allowed):
        assert find_error(packed, weight, plane, before) <= allowed
    else:
        assert largest > (30 if packed.points == 8 else 100)  # large tiles spread more, and give way to small ones


@settings(max_examples=40)
@given(
    seed=st.integers(0, 999),
    tiles=st.sampled_from(TILES),
    spread=st.sampled_from([1e-6, 1.0, 1e6]),
    mean=st.sampled_from([0.0, 1.0, 20.0]),
    sides=st.tuples(st.integers(2, 70), st.integers(2, 70)),
    norm=st.sampled_from(NORMS),
    silu=st.booleans(),
)
def test_dense_inputs_are_never_sent_the_direct_way(seed, tiles, spread, mean, sides, norm, silu):
    packed, weight = build(seed % 7, tiles)
    moments = measure_moments(to_planes(draw_picture(seed, mean, sides) * spread)[0].pixels)
    before, gain = build_before(norm, moments, silu), measure_gain(packed, weight, pool=POOL)
    assert not should_run_directly(gain, to_reach(moments, before, CHANNELS), ALLOWED * predict_spread(gain, moments, before))


@settings(max_examples=30)
@given(seed=st.integers(0, 99), sides=st.tuples(st.integers(1, 25), st.integers(1, 25)), relu=st.booleans())
def test_dense_results_of_a_kernel_are_a_dense_input(seed, sides, relu):
    """Peaks of moments that were gathered in blocks are looser than those of one pass."""
    weight = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=torch.Generator().manual_seed(seed)) / 17
    packed, before = pack_weights(weight.numpy(), None, lanes=8, pool=POOL), Before(relu=relu)
    moments = convolve(packed, to_planes(draw_picture(seed, 1.0, sides))[0], pool=POOL).moments
    gain = measure_gain(packed, weight, pool=POOL)
    allowed = ALLOWED * predict_spread(gain, moments, before)
    assert not should_run_directly(gain, to_reach(moments, before, CHANNELS), allowed) or moments.count <= 2


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("whole", [False, True], ids=["number", "pixel"])
def test_one_outlier_sends_a_layer_the_direct_way(tiles, whole):
    packed, weight = build(0, tiles)
    plane = to_planes(disturb(draw_picture(0, size=(64, 64)), 0, 1, 1e4, whole))[0]
    moments, gain = measure_moments(plane.pixels), measure_gain(packed, weight, pool=POOL)
    allowed = ALLOWED * predict_spread(gain, moments, None)
    assert should_run_directly(gain, to_reach(moments, None, CHANNELS), allowed)
    assert find_error(packed, weight, plane) > 1e-4 * gain.spread, "it does disturb its neighbours"
    again = replace(plane, pixels=plane.pixels * np.float32(1e-9))
    small = measure_moments(again.pixels)
    assert should_run_directly(gain, to_reach(small, None, CHANNELS), ALLOWED * predict_spread(gain, small, None)), "in any unit"


@pytest.mark.parametrize("tiles", TILES)
def test_the_bound_is_not_far_above_the_error(tiles):
    packed, weight = build(0, tiles)
    plane = to_planes(draw_picture(0, size=(60, 60)))[0]
    bound = bound_error(measure_gain(packed, weight, pool=POOL), to_reach(measure_moments(plane.pixels), None, CHANNELS))
    assert bound < 60 * find_error(packed, weight, plane)


@pytest.mark.parametrize(("norm", "silu"), [("none", False), ("none", True), ("group", False), ("group", True), ("channel", True)])
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_the_spread_of_the_results_is_predicted(norm, silu, mean):
    packed, weight = build(0, TILES[0])
    x = draw_picture(0, mean)
    moments = measure_moments(to_planes(x)[0].pixels)
    before = build_before(norm, moments, silu)
    gain = measure_gain(packed, weight, pool=POOL)
    assert gain.spread == pytest.approx(float(weight.square().sum(dim=(1, 2, 3)).mean().sqrt()), rel=1e-5)
    real = float(F.conv2d(activate_directly(x, before), weight).square().mean().sqrt())
    assert 0.5 * real < predict_spread(gain, moments, before) < 2 * real


def test_an_outlier_does_not_raise_the_predicted_spread():
    gain, x = Gain(norm=0.0, peak=0.0, spread=1.0), draw_picture(0, size=(70, 70))
    before = predict_spread(gain, measure_moments(to_planes(x)[0].pixels), None)
    wild = measure_moments(to_planes(disturb(x, 0, 1, 1e4, True))[0].pixels)
    assert 0.9 * before < predict_spread(gain, wild, None) < 1.1 * before


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99), norm=st.sampled_from(NORMS), silu=st.booleans(), mean=st.sampled_from([0.0, -3.0]), outliers=st.integers(0, 3)
)
def test_the_reach_bounds_what_is_read(seed, norm, silu, mean, outliers):
    x = disturb(draw_picture(seed, mean), seed, outliers, 200.0, seed % 2 == 0)
    moments = measure_moments(to_planes(x)[0].pixels)
    before = build_before(norm, moments, silu)
    active, reach = activate_directly(x.double(), before), to_reach(moments, before, CHANNELS)
    peak, norm_found = float(active.abs().max()), float(torch.linalg.vector_norm(active, dim=1).max())
    assert peak <= reach.peak * (1 + 1e-5)
    assert norm_found <= reach.norm * (1 + 1e-5)
    if outliers and norm == "none" and not silu:
        assert reach.peak < 1.2 * max(peak, float(x.abs().max()))


def test_without_peaks_the_reach_still_is_a_bound():
    x = disturb(draw_picture(0), 0, 2, 50.0, False)
    moments = replace(measure_moments(to_planes(x)[0].pixels), peak=None)
    assert to_reach(moments, None, CHANNELS).peak >= float(x.abs().max())


def test_channels_beyond_the_layers_own_do_not_count():
    moments = Moments(count=9, mean=np.array([1.0, 100.0]), squares=np.ones(2), peak=np.array([2.0, 7.0]))
    assert to_reach(moments, None, 1) == Reach(norm=3.0, peak=3.0)


def test_the_gain_depends_on_weights_alone_and_follows_their_size():
    packed, weight = build(0, TILES[0])
    again, wide = pack_weights(weight.numpy(), None, lanes=4, pool=POOL), pack_weights(8 * weight.numpy(), None, lanes=8, pool=POOL)
    gain = measure_gain(packed, weight, pool=POOL)
    assert measure_gain(again, weight, pool=POOL) == gain
    scaled = measure_gain(wide, 8 * weight, pool=POOL)
    assert (scaled.norm, scaled.peak, scaled.spread) == pytest.approx((8 * gain.norm, 8 * gain.peak, 8 * gain.spread))


@pytest.mark.parametrize("enlarge", [False, True])
def test_a_layer_of_zeros_runs_fast(enlarge):
    weight = torch.zeros(8, CHANNELS, 3, 3)
    gain = measure_gain(pack_weights(weight.numpy(), None, lanes=8, pool=POOL, enlarge=enlarge), weight, pool=POOL)
    moments = measure_moments(to_planes(draw_picture(0))[0].pixels)
    assert not should_run_directly(gain, to_reach(moments, None, CHANNELS), ALLOWED * predict_spread(gain, moments, None))


def test_what_is_exact_is_the_enlarged_convolution():
    weight, x = torch.randn(5, 3, 3, 3, dtype=torch.float64), torch.randn(1, 3, 6, 7, dtype=torch.float64)
    exact = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
    assert torch.allclose(convolve_exactly(x, weight, True), exact, atol=1e-12)


@pytest.mark.parametrize("peak", [math.nan, math.inf])
def test_what_is_not_finite_is_not_trusted(peak):
    assert should_run_directly(Gain(norm=1e-7, peak=1e-7, spread=1.0), Reach(norm=1.0, peak=peak), 1e-3)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_input_that_is_not_finite_is_not_trusted(norm, value):
    x = draw_picture(0)
    x[0, 3, 5, 5] = value
    moments = measure_moments(to_planes(x)[0].pixels)
    before, gain = build_before(norm, moments), Gain(norm=1e-7, peak=1e-7, spread=1.0)
    assert should_run_directly(gain, to_reach(moments, before, CHANNELS), ALLOWED * predict_spread(gain, moments, before))
