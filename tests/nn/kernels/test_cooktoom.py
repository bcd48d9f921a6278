"""The transforms: exact for any points, and close in float64."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightfold.nn.kernels.cooktoom import BY_INPUTS, F42, F43, F63, build_transform, spread_points

PLACES = st.builds(Fraction, st.integers(-12, 12), st.sampled_from([1, 2, 3, 4]))
NUMBERS = st.builds(Fraction, st.integers(-999, 999), st.sampled_from([1, 7, 16]))


def draw_numbers(data, count):
    return data.draw(st.lists(NUMBERS, min_size=count, max_size=count))


def apply(matrix, values):
    return [sum((a * b for a, b in zip(row, values, strict=True)), start=Fraction(0)) for row in matrix]


def correlate(taps, values):
    return [sum(tap * values[i + k] for k, tap in enumerate(taps)) for i in range(len(values) - len(taps) + 1)]


@given(outputs=st.integers(1, 6), taps=st.integers(1, 4), data=st.data())
def test_every_set_of_points_gives_the_correlation_exactly(outputs, taps, data):
    count = outputs + taps - 2
    transform = build_transform(outputs, taps, data.draw(st.lists(PLACES, min_size=count, max_size=count, unique=True)))
    kernel, values = draw_numbers(data, taps), draw_numbers(data, transform.inputs)
    products = [a * b for a, b in zip(apply(transform.kernel, kernel), apply(transform.input, values), strict=True)]
    assert apply(transform.output, products) == correlate(kernel, values)


@pytest.mark.parametrize("transform", [F63, F43, F42], ids=["F(6,3)", "F(4,3)", "F(4,2)"])
def test_two_axes_in_float64(transform):
    output, kernel, source = (np.array(matrix, float) for matrix in (transform.output, transform.kernel, transform.input))
    random = np.random.default_rng(0)
    taps, values = random.standard_normal((transform.taps,) * 2), random.standard_normal((transform.inputs,) * 2)
    found = output @ ((kernel @ taps @ kernel.T) * (source @ values @ source.T)) @ output.T
    windows = np.lib.stride_tricks.sliding_window_view(values, taps.shape)
    assert np.abs(found - (windows * taps).sum(axis=(-1, -2))).max() < 1e-12


def test_a_transform_is_found_by_its_inputs():
    assert {size: (one.outputs, one.taps) for size, one in BY_INPUTS.items()} == {8: (6, 3), 6: (4, 3), 5: (4, 2)}


@pytest.mark.parametrize("points", [(0, 1, -1, 2), (0, 1, -1, 2, -2, 3), (0, 1, -1, 2, 2)])
def test_points_have_to_be_as_many_as_needed_and_different(points):
    with pytest.raises(ValueError, match=r"F\(4,3\) needs 5 different"):
        build_transform(4, 3, points)


def measure_errors(transform):
    """Root mean square and largest error of results in float32, over tiles of 64 channels, against float64."""
    random = np.random.default_rng(0)
    size, taps = transform.inputs, transform.taps
    output, source = (
        np.array([[float(entry) for entry in row] for row in matrix], np.float32) for matrix in (transform.output, transform.input)
    )
    kernel = np.array([[float(entry) for entry in row] for row in transform.kernel])
    values = random.standard_normal((300, 64, size, size), np.float32)
    weight = random.standard_normal((4, 64, taps, taps), np.float32) / 24
    left = (source @ values @ source.T).transpose(2, 3, 0, 1)
    right = (kernel @ weight.astype(np.float64) @ kernel.T).astype(np.float32).transpose(2, 3, 1, 0)
    found = output @ (np.ascontiguousarray(left) @ np.ascontiguousarray(right)).transpose(2, 3, 0, 1) @ output.T
    windows = np.lib.stride_tricks.sliding_window_view(values.astype(np.float64), (taps, taps), axis=(2, 3))
    errors = found - np.einsum("tcabij,ncij->tnab", windows, weight, optimize=True)
    return np.sqrt(np.square(errors).mean()), np.abs(errors).max()


@pytest.mark.parametrize(("ours", "usual"), [(F43, build_transform(4, 3, (0, 1, -1, 2, -2))), (F42, build_transform(4, 2, (0, 1, -1, 2)))])
def test_our_points_round_less_than_the_usual_ones(ours, usual):
    (spread, largest), (usual_spread, usual_largest) = measure_errors(ours), measure_errors(usual)
    assert spread < 0.6 * usual_spread
    assert largest < 0.5 * usual_largest


@pytest.mark.parametrize("places", [(Fraction(1, 2), 1, Fraction(3, 2)), (Fraction(3, 4), Fraction(5, 4), 2), (1, 2, 3)])
def test_the_points_for_six_results_round_less_than_others(places):
    (spread, largest), (other_spread, other_largest) = (
        measure_errors(F63),
        measure_errors(build_transform(6, 3, (0, *spread_points(*map(Fraction, places))))),
    )
    assert spread < 0.9 * other_spread
    assert largest < other_largest
    assert spread < 5 * measure_errors(F43)[0]


@pytest.mark.parametrize("transform", [F63, F43, F42], ids=["F(6,3)", "F(4,3)", "F(4,2)"])
def test_the_transforms_of_data_are_exact_in_float32(transform):
    assert all(
        Fraction(float(np.float32(float(entry)))) == entry
        for matrix in (transform.input, transform.output)
        for row in matrix
        for entry in row
    )
