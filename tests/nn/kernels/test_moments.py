"""Moments joined from parts, and the normalisation made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from eightfold.nn.kernels.before import Before
from eightfold.nn.kernels.direct import activate_directly
from eightfold.nn.kernels.moments import add_moments, measure_moments, to_affine
from eightfold.nn.kernels.plane import from_plane, from_planes, to_planes


def draw_pixels(seed, shape, mean, spread):
    return (np.random.default_rng(seed).standard_normal(shape) * spread + mean).astype(np.float32)


def check_peak(found, exact):
    """A bound of the largest distance from the mean, and no loose one."""
    largest = np.abs(exact - exact.mean(axis=0)).max(axis=0)
    assert (found >= largest * (1 - 1e-6)).all()
    assert (found <= 1.5 * largest + 2e-7 * np.abs(exact).max()).all()


@given(
    seed=st.integers(0, 99), rows=st.integers(1, 900), mean=st.sampled_from([0.0, 1.0, -1e3, 1e5]), spread=st.sampled_from([1e-2, 1.0, 1e3])
)
def test_moments_are_those_of_float64(seed, rows, mean, spread):
    pixels = draw_pixels(seed, (rows, 3, 512), mean, spread)
    found, exact = measure_moments(pixels), pixels.reshape(-1, 512).astype(np.float64)
    assert found.count == 3 * rows
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-12 * spread)
    check_peak(found.peak, exact)
    np.testing.assert_allclose(found.squares, ((exact - exact.mean(axis=0)) ** 2).sum(axis=0), rtol=1e-6, atol=1e-12)


@given(seed=st.integers(0, 99), cut=st.integers(1, 19), mean=st.sampled_from([0.0, 1e4]))
def test_strips_add_up_to_the_whole(seed, cut, mean):
    pixels = draw_pixels(seed, (20, 5, 8), mean, 1)
    whole, added = measure_moments(pixels), add_moments(measure_moments(pixels[:cut]), measure_moments(pixels[cut:]))
    assert added.count == whole.count
    np.testing.assert_allclose(added.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(added.squares, whole.squares, rtol=1e-6)
    check_peak(added.peak, pixels.reshape(-1, 8).astype(np.float64))
    assert add_moments(whole, replace(whole, peak=None)).peak is None


@given(seed=st.integers(0, 99), groups=st.sampled_from([1, 2, 4, 8]), mean=st.sampled_from([0.0, 3.0, 1e4]), silu=st.booleans())
def test_the_normalisation_is_torchs_in_float64_even_far_from_zero(seed, groups, mean, silu):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 8, 6, 7, generator=random) + mean
    weight, bias = torch.randn(2, 8, generator=random)
    plane = to_planes(x)[0]
    affine = to_affine(measure_moments(plane.pixels), groups, weight.numpy(), bias.numpy(), 1e-6)
    exact = F.group_norm(x.double(), groups, weight.double(), bias.double(), 1e-6)
    assert affine.dtype == np.float32
    found = activate_directly(x, Before(affine=affine, silu=silu)).double()
    assert torch.allclose(found, F.silu(exact) if silu else exact, atol=3e-6, rtol=3e-6)


def test_planes_there_and_back():
    images = torch.randn(3, 5, 4, 6)
    planes = to_planes(images)
    assert torch.equal(from_planes(planes), images)
    assert torch.equal(from_planes(planes, 2), images[:, :2])
    planes[0].pixels[0, 0, 0] = 7
    assert from_plane(planes[0])[0, 0, 0, 0] == 7
