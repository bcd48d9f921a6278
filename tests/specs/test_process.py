"""The process: its table, what lies between the entries, and the inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.core.errors import ConfigError
from eightfold.specs.process import ScaledLinear

PROCESS = ScaledLinear()
TIMES = st.floats(0, 1)


def test_the_table_is_that_of_stable_diffusion():
    theirs = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod.double().numpy()
    ours = np.array([PROCESS.alpha((i + 1) / 1000) ** 2 for i in range(1000)])
    assert np.allclose(ours, theirs, rtol=5e-6, atol=0)  # theirs is a float32 running product


@pytest.mark.parametrize("steps", [1000, 997, 30])
def test_every_entry_is_met_exactly(steps):
    process = ScaledLinear(steps=steps)
    for i in range(steps):
        t = (i + 1) / steps
        assert process.ratio(t) == process.table[i + 1]
        assert process.timestep(t) == i
        assert process.t(process.table[i + 1]) == t


def test_a_rounding_error_in_t_does_no_harm():
    for i in (1, 290, 580, 999):
        for t in (math.nextafter(i / 1000, 0.0), math.nextafter(i / 1000, 1)):
            assert PROCESS.ratio(t) == PROCESS.table[i]


def test_between_entries_the_logarithm_is_linear():
    assert PROCESS.ratio(0.5005) == pytest.approx(math.sqrt(PROCESS.table[500] * PROCESS.table[501]), rel=1e-12)


def test_below_the_first_entry_the_ratio_is_linear():
    assert PROCESS.ratio(0.00025) == pytest.approx(PROCESS.table[1] / 4, rel=1e-12)
    assert PROCESS.timestep(0.00025) == 0


def test_the_ends():
    assert (PROCESS.alpha(0.0), PROCESS.sigma(0.0), PROCESS.ratio(0.0), PROCESS.timestep(0.0)) == (1, 0, 0, 0)
    assert (PROCESS.t(0.0), PROCESS.t(1e6), PROCESS.timestep(1.0), PROCESS.floor) == (0, 1, 999, 0.001)
    assert (PROCESS.ratio(-1.0), PROCESS.ratio(2.0)) == (0, PROCESS.table[-1])


@settings(max_examples=100, deadline=None)
@given(TIMES)
def test_t_inverts_ratio(t):
    assert PROCESS.t(PROCESS.ratio(t)) == pytest.approx(t, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, PROCESS.table[-1]))
def test_ratio_inverts_t(ratio):
    assert PROCESS.ratio(PROCESS.t(ratio)) == pytest.approx(ratio, rel=1e-8, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(TIMES, TIMES)
def test_variance_is_preserved_and_noise_only_grows(one, other):
    low, high = sorted((one, other))
    assert PROCESS.alpha(low) ** 2 + PROCESS.sigma(low) ** 2 == pytest.approx(1, abs=1e-12)
    assert PROCESS.sigma(low) / PROCESS.alpha(low) == pytest.approx(PROCESS.ratio(low), rel=1e-12, abs=1e-15)
    if high - low > 1e-9:
        assert PROCESS.ratio(low) < PROCESS.ratio(high)


@pytest.mark.parametrize("settings", [{"first": 0.0}, {"first": 0.5, "last": 0.1}, {"last": 1.0}, {"steps": 1}])
def test_a_process_that_cannot_be_is_refused(settings):
    with pytest.raises(ConfigError, match="expected") as caught:
        ScaledLinear(**settings)
    assert caught.value.hint
