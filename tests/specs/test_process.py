"""The process: its table, what lies between the entries, and the inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_edm_euler import EDMEulerScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.core.errors import ConfigError
from eightfold.specs.process import Edm, Process, ScaledLinear

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


def test_zero_terminal_is_that_of_diffusers():
    theirs = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True)
    process = ScaledLinear(zero_terminal=True)
    ours = np.array([process.alpha((i + 1) / 1000) for i in range(1000)])
    assert np.allclose(ours, theirs.alphas_cumprod.double().sqrt().numpy(), rtol=0, atol=2e-6)
    assert process.alpha(0.001) == pytest.approx(PROCESS.alpha(0.001), rel=1e-12)


def test_zero_terminal_ends_in_noise_alone():
    process = ScaledLinear(zero_terminal=True)
    assert (process.alpha(1.0), process.sigma(1.0), process.ratio(1.0), process.t(math.inf)) == (0, 1, math.inf, 1)
    assert 1 / process.ratio(0.99925) == pytest.approx(0.75 / process.ratio(0.999), rel=1e-9)  # alpha / sigma is linear there


@settings(max_examples=100, deadline=None)
@given(TIMES)
def test_t_inverts_ratio_to_noise_alone(t):
    process = ScaledLinear(zero_terminal=True)
    assert process.t(process.ratio(t)) == pytest.approx(t, abs=1e-9)
    assert process.alpha(t) ** 2 + process.sigma(t) ** 2 == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("knots", [(1.0,), (0.9, 0.5), (1.0, 0.5, 0.5), (1.0, 0.5, 0.0)])
def test_knots_that_cannot_be_are_refused(knots):
    with pytest.raises(ConfigError, match="knots") as caught:
        ScaledLinear(knots=knots)
    assert caught.value.hint


@settings(max_examples=100, deadline=None)
@given(TIMES)
def test_edm_there_and_back(t):
    process = Edm(spread=0.5)
    assert process.t(process.ratio(t)) == pytest.approx(t, abs=1e-9)
    assert process.alpha(t) ** 2 + process.sigma(t) ** 2 == pytest.approx(1, abs=1e-12)
    assert process.sigma(t) == pytest.approx(process.ratio(t) * process.alpha(t), rel=1e-12, abs=1e-15)


def test_edm_is_as_published():
    process = Edm(spread=0.5)
    theirs = EDMEulerScheduler(sigma_data=0.5)
    for level in (0.002, 0.3, 7.0, 80.0):
        t = process.t(level / 0.5)
        assert process.level(t) == pytest.approx(level)
        assert process.alpha(t) == pytest.approx(theirs._get_conditioning_c_in(level) * 0.5)
        assert process.timestep(t) == pytest.approx(float(theirs.precondition_noise(level)), abs=1e-6)
    assert (process.ratio(0.0), process.ratio(process.floor), process.ratio(1.0)) == (0, 0.004, 160)
    assert process.timestep(0.0) == process.timestep(process.floor)


def test_edm_rises_evenly_in_the_logarithm():
    process = Edm(lowest=0.01, highest=100.0)
    assert process.ratio((process.floor + 1) / 2) == pytest.approx(1)
    assert process.ratio(process.floor / 4) == pytest.approx(0.0025)


@pytest.mark.parametrize("settings", [{"lowest": 0.0}, {"lowest": 90.0}, {"highest": math.inf}, {"spread": 0.0}])
def test_an_edm_process_that_cannot_be_is_refused(settings):
    with pytest.raises(ConfigError, match="expected") as caught:
        Edm(**settings)
    assert caught.value.hint


@pytest.mark.parametrize("process", [PROCESS, ScaledLinear(zero_terminal=True), Edm()])
def test_all_are_processes(process):
    assert isinstance(process, Process)
