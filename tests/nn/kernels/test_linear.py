"""Linear maps of every pixel: into a plane that is there, onto what is there, in strips, with their moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from eightfold.nn.kernels.before import Before
from eightfold.nn.kernels.direct import convolve_directly
from eightfold.nn.kernels.layers import PIXELS, apply_linear
from eightfold.nn.kernels.moments import measure_moments
from eightfold.nn.kernels.packed import pack_weights
from eightfold.nn.kernels.plane import Plane, build_plane, to_planes
from eightfold.nn.kernels.pool import Pool

POOL = Pool(2)


def build(outputs=16, channels=16, seed=0):
    random = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(outputs, channels, 1, 1, generator=random), torch.randn(outputs, generator=random)
    return weight, bias, pack_weights(weight, bias.numpy(), lanes=8, pool=POOL)


@settings(max_examples=40)
@given(
    sides=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    outputs=st.integers(1, 40),
    mean=st.sampled_from([0.0, 1e3]),
    before=st.sampled_from([None, Before(relu=True), Before(gamma=np.linspace(1, 2, 16, dtype=np.float32), silu=True)]),
    where=st.sampled_from(["new", "target", "residual", "both"]),
)
def test_a_linear_map_onto_a_plane(sides, outputs, mean, before, where):
    weight, bias, packed = build(outputs)
    random = torch.Generator().manual_seed(1)
    source = to_planes(torch.randn(1, 16, *sides, generator=random) + mean)[0]
    added = to_planes(torch.randn(1, packed.stored, *sides, generator=random) + mean)[0]
    residual = added if where in ("residual", "both") else None
    exact = convolve_directly(weight.double(), bias.double(), source, before=before, residual=residual)
    target = {"target": build_plane(*sides, packed.stored), "both": added}.get(where)
    kept = added.pixels.copy()
    ours = apply_linear(packed, source, target, before=before, residual=residual, pool=POOL)
    assert target is None or ours is target
    assert where == "both" or np.array_equal(added.pixels, kept)
    largest = np.abs(exact.pixels).max()
    assert np.abs(ours.pixels[..., :outputs] - exact.pixels).max() <= 1e-5 * max(1, largest)
    found, expected = ours.moments, measure_moments(ours.pixels)
    spread = np.sqrt(expected.squares / expected.count) + 1e-6 * (1 + np.abs(expected.mean))
    assert found.count == expected.count
    assert (np.abs(found.mean - expected.mean) <= 1e-4 * spread).all()
    assert (np.abs(found.squares - expected.squares) <= 1e-4 * expected.count * spread**2).all()
    assert (found.peak >= np.abs(ours.pixels - expected.mean).max(axis=(0, 1)) - 1e-6 * (1 + np.abs(ours.pixels).max(axis=(0, 1)))).all()


def test_moments_where_the_first_pixel_is_the_outlier():
    x = torch.randn(1, 16, 40, 40)
    x[0, :, 0, 0] = 1e3
    ours = apply_linear(build()[2], to_planes(x)[0], pool=POOL)
    expected = measure_moments(ours.pixels)
    np.testing.assert_allclose(ours.moments.squares, expected.squares, rtol=1e-4)
    assert (ours.moments.peak <= 1.05 * expected.peak).all()


def test_a_strip_keeps_its_rows():
    packed, x = build()[2], torch.randn(1, 16, 2 * PIXELS // 20, 20)
    plane = to_planes(x)[0]
    whole = apply_linear(packed, plane, pool=POOL)
    strip = Plane(pixels=plane.pixels[5:18].copy(), height=plane.height, first_row=5)
    found = apply_linear(packed, strip, residual=build_zeros(strip), pool=POOL)
    assert found.rows == (5, 18)
    assert np.array_equal(found.pixels, whole.pixels[5:18])


def build_zeros(plane):
    made = build_plane(plane.height, plane.width, plane.channels, plane.rows)
    made.pixels[:] = 0
    return made


def test_planes_that_do_not_fit_are_refused():
    packed, plane = build()[2], build_plane(12, 8, 16)
    with pytest.raises(ValueError, match="cannot write over its own input"):
        apply_linear(packed, plane, plane, pool=POOL)
    for other in (build_plane(12, 8, 32), build_plane(12, 9, 16), build_plane(12, 8, 16, (0, 8))):
        with pytest.raises(ValueError, match="a 1x1 layer makes"):
            apply_linear(packed, plane, other, pool=POOL)
    with pytest.raises(ValueError, match="what is added"):
        apply_linear(packed, plane, residual=build_plane(12, 8, 16, (0, 8)), pool=POOL)
