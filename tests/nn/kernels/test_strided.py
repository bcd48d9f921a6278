"""Convolutions with stride 2 as products of patches: both borders, odd sides, strips, moments, several blocks a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

pytest.importorskip("numba")

from eightfold.nn.kernels import strided
from eightfold.nn.kernels.moments import measure_moments
from eightfold.nn.kernels.plane import Plane, build_plane, from_plane, to_planes
from eightfold.nn.kernels.pool import Pool
from eightfold.nn.kernels.strided import convolve_strided, pack_strided

POOL = Pool(2)


def convolve_by_torch(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, symmetric: bool) -> torch.Tensor:
    padded = F.pad(x.double(), (1, 1, 1, 1) if symmetric else (0, 1, 0, 1))
    return F.conv2d(padded, weight.double(), bias.double(), stride=2)


@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(st.integers(2, 23), st.integers(2, 23)),
    channels=st.sampled_from([8, 16, 24]),
    outputs=st.sampled_from([8, 16, 20, 32]),
    symmetric=st.booleans(),
    pixels=st.sampled_from([1, 2, 5, 252]),
    outlier=st.sampled_from([0.0, 1e4]),
)
def test_it_is_the_convolution(sides, channels, outputs, symmetric, pixels, outlier):
    random = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, channels, *sides, generator=random), torch.randn(outputs, channels, 3, 3, generator=random)
    x[0, 0, sides[0] // 2, sides[1] // 2] += outlier
    bias = torch.randn(outputs, generator=random)
    exact = convolve_by_torch(x, weight, bias, symmetric)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strided, "PIXELS", pixels)
        packed = pack_strided(weight, bias, lanes=8, pool=POOL)
        ours = convolve_strided(packed, to_planes(x)[0], symmetric=symmetric, pool=POOL)
    found = from_plane(ours, outputs)
    assert found.shape == exact.shape and (found - exact).abs().max() <= 2e-6 * max(10.0, float(exact.abs().max()))
    expected = measure_moments(ours.pixels)
    assert ours.moments is not None and ours.moments.count == expected.count
    assert np.allclose(ours.moments.mean, expected.mean, atol=1e-5 * np.abs(ours.pixels).max())


@pytest.mark.parametrize("symmetric", [True, False])
def test_strips_are_bit_for_bit_the_whole(symmetric):
    random = torch.Generator().manual_seed(1)
    x, weight = torch.randn(1, 16, 22, 17, generator=random), torch.randn(16, 16, 3, 3, generator=random)
    packed = pack_strided(weight, None, lanes=8, pool=POOL)
    (source,) = to_planes(x)
    whole = convolve_strided(packed, source, symmetric=symmetric, pool=POOL)
    for begin, end in ((0, 3), (3, 8), (8, whole.height)):
        low, high = max(0, 2 * begin - 1), min(22, 2 * end + 1)
        held = Plane(pixels=source.pixels[low:high].copy(), height=22, first_row=low)
        strip = convolve_strided(
            packed, held, build_plane(whole.height, whole.width, packed.stored, (begin, end)), symmetric=symmetric, pool=POOL
        )
        assert np.array_equal(strip.pixels, whole.pixels[begin:end])


def test_planes_that_do_not_fit_are_refused():
    packed = pack_strided(torch.ones(16, 16, 3, 3), None, lanes=8, pool=POOL)
    source = build_plane(8, 8, 16)
    with pytest.raises(ValueError, match="strided layer"):
        convolve_strided(packed, source, build_plane(8, 8, 16), symmetric=False, pool=POOL)
    with pytest.raises(ValueError, match="strided layer"):
        convolve_strided(packed, build_plane(8, 8, 8), symmetric=False, pool=POOL)
    with pytest.raises(ValueError, match="rows 4 to 8 are read, and the input holds 0 to 5"):
        convolve_strided(packed, Plane(pixels=source.pixels[:5], height=8), build_plane(4, 4, 16, (2, 4)), symmetric=False, pool=POOL)
