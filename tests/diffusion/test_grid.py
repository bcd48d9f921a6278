"""Grids descend from 1 to 0, and are the ones other programs use."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.core.errors import RequestError, UnknownName
from eightfold.diffusion.grid import GRIDS, MOST_STEPS, build_grid
from eightfold.specs.process import ScaledLinear

PROCESS = ScaledLinear()


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=30, deadline=None)
@given(steps=st.sampled_from([1, 2, 3, 20, 999, MOST_STEPS]) | st.integers(1, MOST_STEPS))
def test_every_grid_descends_from_noise_to_clean(name, steps):
    times = build_grid(name, PROCESS, steps)
    assert len(times) == steps + 1
    assert (times[0], times[-1]) == (1, 0)
    assert all(t > next_t for t, next_t in pairwise(times))


@pytest.mark.parametrize(
    "name, options",
    [
        ("uniform", {"timestep_spacing": "linspace"}),
        ("trailing", {"timestep_spacing": "trailing"}),
        ("karras", {"use_karras_sigmas": True}),
    ],
)
@pytest.mark.parametrize("steps", [8, 20, 50])
def test_parity_with_diffusers(name, options, steps):
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **options)
    scheduler.set_timesteps(steps)
    times = build_grid(name, PROCESS, steps)
    # Their table is float32: 1 - alpha**2 is known to 7e-5 at the first entry, and a ratio to 3e-6 in the middle, where the
    # logarithm rises by 0.0025 an entry. Between entries theirs interpolates the ratio itself, which only "uniform" meets.
    assert np.allclose([PROCESS.timestep(t) for t in times[:-1]], scheduler.timesteps.numpy(), rtol=0, atol=2e-3)
    tolerance = 1e-4 if name == "uniform" else 3.5e-5
    assert np.allclose([PROCESS.ratio(t) for t in times], scheduler.sigmas.numpy(), rtol=tolerance, atol=0)


def test_uniform_ends_at_the_first_entry():
    assert build_grid("uniform", PROCESS, 10)[-2] == PROCESS.floor
    assert build_grid("karras", PROCESS, 10)[-2] == PROCESS.floor


@pytest.mark.parametrize("steps", [0, -3, MOST_STEPS + 1])
def test_steps_that_cannot_be_are_refused(steps):
    with pytest.raises(RequestError, match="steps") as caught:
        build_grid("uniform", PROCESS, steps)
    assert caught.value.hint


def test_an_unknown_grid_names_the_nearest():
    with pytest.raises(UnknownName) as caught:
        build_grid("karas", PROCESS, 20)
    assert "karras" in caught.value.hint
