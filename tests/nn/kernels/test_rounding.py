"""The measured bound holds, with outliers too, and tells a layer that may be run fast from one that may not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from eightfold.nn.kernels.direct import convolve_directly
from eightfold.nn.kernels.layers import convolve
from eightfold.nn.kernels.packed import pack_weights
from eightfold.nn.kernels.plane import from_plane, to_planes
from eightfold.nn.kernels.pool import Pool
from eightfold.nn.kernels.rounding import Gain, Reach, bound_error, measure_gain, measure_reach, should_run_directly

POOL = Pool(1)


def build(seed, enlarge, outlier=0.0):
    """Weights [16, 32, 3, 3], packed and as they are; one of them may be an outlier."""
    weight = torch.randn(16, 32, 3, 3, generator=torch.Generator().manual_seed(seed)) / 17
    if outlier:
        weight[3, 5, 1, 1] = outlier
    return pack_weights(weight.numpy(), None, lanes=8, pool=POOL, enlarge=enlarge), weight


def find_error(packed, weight, plane):
    exact = convolve_directly(weight.double(), None, plane, enlarge=packed.phases == 4)
    return float((from_plane(convolve(packed, plane, pool=POOL)) - from_plane(exact)).abs().max())


@settings(max_examples=40)
@given(
    seed=st.integers(0, 999),
    enlarge=st.booleans(),
    spread=st.sampled_from([1e-3, 1.0, 1e3]),
    outliers=st.integers(0, 5),
    weight_outlier=st.sampled_from([0.0, 30.0]),
)
def test_the_bound_holds(seed, enlarge, spread, outliers, weight_outlier):
    packed, weight = build(seed % 7, enlarge, weight_outlier)
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 32, 27, 34, generator=random) * spread
    x.view(-1)[torch.randint(x.numel(), (outliers,), generator=random)] = 1e3 * spread
    plane = to_planes(x)[0]
    gain, reach = measure_gain(packed, weight, pool=POOL), measure_reach(plane, None, packed.points)
    error = find_error(packed, weight, plane)
    assert 0 < error <= bound_error(gain, reach)


@pytest.mark.parametrize("enlarge", [False, True])
def test_the_bound_is_not_far_above_the_error(enlarge):
    packed, weight = build(0, enlarge)
    plane = to_planes(torch.randn(1, 32, 60, 60))[0]
    bound = bound_error(measure_gain(packed, weight, pool=POOL), measure_reach(plane, None, packed.points))
    assert bound < 30 * find_error(packed, weight, plane)


def test_one_outlier_decides():
    packed, weight = build(0, False)
    x = torch.randn(1, 32, 24, 24)
    gain, calm = measure_gain(packed, weight, pool=POOL), measure_reach(to_planes(x)[0], None, packed.points)
    x[0, 9, 13, 2] = 1e4
    wild = measure_reach(to_planes(x)[0], None, packed.points)
    assert not should_run_directly(gain, calm, 1e-4)
    assert should_run_directly(gain, wild, 1e-4)
    error = find_error(packed, weight, to_planes(x)[0])
    assert error > 1e-4, "the outlier does disturb its neighbours"


def test_the_reach_is_the_norm_of_the_largest_tile():
    x = torch.zeros(1, 8, 9, 9)
    x[0, 2, 1, 1], x[0, 5, 2, 2], x[0, 1, 8, 8] = 3, 4, -4.5
    assert measure_reach(to_planes(x)[0], None, 6) == Reach(norm=5.0, peak=4.5)


def test_the_reach_is_that_of_the_activated_input():
    affine = np.concatenate([np.full(8, 1.0), np.full(8, 2.0), np.full(8, 50.0)]).astype(np.float32)
    reach = measure_reach(to_planes(torch.ones(1, 8, 1, 1))[0], affine, 6)
    assert (reach.norm, reach.peak) == (pytest.approx(50 * math.sqrt(8)), pytest.approx(50))


@pytest.mark.parametrize("peak", [math.nan, math.inf])
def test_what_is_not_finite_is_not_trusted(peak):
    assert should_run_directly(Gain(norm=1e-7, peak=1e-7), Reach(norm=1.0, peak=peak), 1e-3)
