"""Grids descend to 0, and are the ones other programs use."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_utils import AysSchedules
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from eightfold.core.errors import RequestError, UnknownName
from eightfold.diffusion.betaquantile import find_quantile
from eightfold.diffusion.grid import GRIDS, LCM_TIMES, MOST_STEPS, build_grid
from eightfold.families.processes import COSXL_PROCESS, SD_PROCESS, SDXL_PROCESS, ZERO_TERMINAL
from eightfold.specs.process import ScaledLinear

TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("process", [SD_PROCESS, SDXL_PROCESS, ScaledLinear(steps=50, knots=(1.0, 0.5)), COSXL_PROCESS])
@settings(max_examples=20, deadline=None)
@given(steps=st.sampled_from([1, 2, 3, 20, 999, MOST_STEPS]) | st.integers(1, MOST_STEPS))
def test_every_grid_descends_from_noise_to_clean(name, process, steps):
    if name == "ays" and not process.knots:
        return
    steps = min(steps, round(1 / process.floor)) if name == "leading" else steps
    steps = min(steps, LCM_TIMES) if name == "lcm" else steps
    times = build_grid(name, process, steps)
    assert len(times) == steps + 1
    assert times[-1] == 0
    assert times[0] == 1 if name != "leading" else 0 < times[0] <= 1
    assert all(t > next_t for t, next_t in pairwise(times))


@pytest.mark.parametrize(
    "name, options",
    [
        ("uniform", {"timestep_spacing": "linspace"}),
        ("trailing", {"timestep_spacing": "trailing"}),
        ("leading", {"timestep_spacing": "leading", "steps_offset": 1}),
        ("karras", {"use_karras_sigmas": True}),
        ("exponential", {"use_exponential_sigmas": True}),
        ("beta", {"use_beta_sigmas": True}),
    ],
)
@pytest.mark.parametrize("steps", [8, 20, 50])
def test_parity_with_diffusers(name, options, steps):
    scheduler = EulerDiscreteScheduler(**TABLE, **options)
    scheduler.set_timesteps(steps)
    times = build_grid(name, SD_PROCESS, steps)
    # Their table is float32: 1 - alpha**2 is known to 7e-5 at the first entry, and a ratio to 3e-6 in the middle, where the
    # logarithm rises by 0.0025 an entry. Between entries theirs interpolates the ratio itself, which only "uniform" meets.
    assert np.allclose([SD_PROCESS.timestep(t) for t in times[:-1]], scheduler.timesteps.numpy(), rtol=0, atol=2e-3)
    tolerance = 1e-4 if name == "uniform" else 3.5e-5
    assert np.allclose([SD_PROCESS.ratio(t) for t in times], scheduler.sigmas.numpy(), rtol=tolerance, atol=0)


@pytest.mark.parametrize("steps", [1, 3, 7, 20, 30, 50, 333, 999])
def test_leading_is_stable_diffusions_own(steps):
    scheduler = DDIMScheduler(**TABLE, timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(steps)
    times = build_grid("leading", SD_PROCESS, steps)
    assert [SD_PROCESS.timestep(t) for t in times[:-1]] == pytest.approx(scheduler.timesteps.tolist(), abs=1e-9)


@pytest.mark.parametrize("process, name", [(SD_PROCESS, "StableDiffusion"), (SDXL_PROCESS, "StableDiffusionXL")])
def test_align_your_steps_is_as_published(process, name):
    times = build_grid("ays", process, 10)
    assert [process.timestep(t) for t in times[:-1]] == AysSchedules[f"{name}Timesteps"]
    assert np.allclose([process.ratio(t) for t in times], AysSchedules[f"{name}Sigmas"], rtol=0, atol=5.1e-3)  # printed with three digits
    assert build_grid("ays", process, 20)[::2] == pytest.approx(times)
    between = build_grid("ays", process, 20)[1]
    assert process.ratio(between) ** 2 == pytest.approx(process.ratio(times[0]) * process.ratio(times[1]))


def test_a_schedule_that_was_not_published_is_refused():
    with pytest.raises(RequestError, match="ays") as caught:
        build_grid("ays", ScaledLinear(), 20)
    assert "karras" in caught.value.hint


@pytest.mark.parametrize("name", ["karras", "exponential", "beta"])
def test_grids_over_noise_levels_need_a_finite_one(name):
    with pytest.raises(RequestError, match=rf"{name}.*noise alone") as caught:
        build_grid(name, ZERO_TERMINAL, 20)
    assert "trailing" in caught.value.hint


@pytest.mark.parametrize("shape", [0.3, 0.6, 1.0])
@given(probability=st.floats(0, 1))
def test_quantiles_of_a_beta_distribution(shape, probability):
    assert find_quantile(probability, shape) == pytest.approx(beta.ppf(probability, shape, shape), rel=1e-9, abs=1e-12)


def test_uniform_ends_at_the_first_entry():
    for name in ("uniform", "karras", "exponential", "beta"):
        assert build_grid(name, SD_PROCESS, 10)[-2] == SD_PROCESS.floor


@pytest.mark.parametrize("steps", [0, -3, MOST_STEPS + 1])
def test_steps_that_cannot_be_are_refused(steps):
    with pytest.raises(RequestError, match="steps") as caught:
        build_grid("uniform", SD_PROCESS, steps)
    assert caught.value.hint


def test_more_steps_than_times_have_no_leading_grid():
    with pytest.raises(RequestError, match=r"60 steps.*50 trained times") as caught:
        build_grid("leading", ScaledLinear(steps=50), 60)
    assert "trailing" in caught.value.hint


def test_an_unknown_grid_names_the_nearest():
    with pytest.raises(UnknownName) as caught:
        build_grid("karas", SD_PROCESS, 20)
    assert "karras" in caught.value.hint
