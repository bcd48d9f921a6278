"""What other programs call samplers and grids."""

from __future__ import annotations

import diffusers
import pytest

from eightfold.core.errors import UnknownName
from eightfold.diffusion.aliases import GRID_ALIASES, SAMPLER_ALIASES, find_grid, find_sampler, fold, list_names
from eightfold.diffusion.grid import GRIDS
from eightfold.diffusion.samplers import SAMPLERS


@pytest.mark.parametrize(
    "name, expected",
    [
        ("DPM++ 2M Karras", ("dpm++2m", "karras")),
        ("DPM++ 2M SDE Karras", ("dpm++2m-sde", "karras")),
        ("DPM++ 3M SDE Exponential", ("dpm++3m-sde", "exponential")),
        ("DPM++ SDE", ("dpm++sde", None)),
        ("DPM++ 2S a Karras", ("dpm++2s-ancestral", "karras")),
        ("DPM++ 2M SGM Uniform", ("dpm++2m", "trailing")),
        ("DPM2 a", ("dpm2-ancestral", None)),
        ("DPM2 a Karras", ("dpm2-ancestral", "karras")),
        ("DPM2 Karras", ("dpm2", "karras")),
        ("Euler a", ("euler-ancestral", None)),
        ("euler_ancestral", ("euler-ancestral", None)),
        ("Euler Align Your Steps", ("euler", "ays")),
        ("LMS Karras", ("lms", "karras")),
        ("k_lms_ka", ("lms", "karras")),
        ("k_dpmpp_2m_ka", ("dpm++2m", "karras")),
        ("k_dpm_2_a_ka", ("dpm2-ancestral", "karras")),
        ("dpmpp_2m_sde_gpu", ("dpm++2m-sde", None)),
        ("dpmpp_2m_k", ("dpm++2m", "karras")),
        ("kdpm_2_a_k", ("dpm2-ancestral", "karras")),
        ("uni_pc_bh2", ("unipc", None)),
        ("UniPC", ("unipc", None)),
        ("PLMS", ("plms", None)),
        ("DPMSolverMultistepScheduler", ("dpm++2m", None)),
    ],
)
def test_names_of_other_programs(name, expected):
    assert find_sampler(name) == expected


@pytest.mark.parametrize("name", SAMPLERS)
def test_our_own_names_are_found(name):
    assert find_sampler(name) == (name, None)
    assert find_sampler(f"{name} karras") == (name, "karras")


@pytest.mark.parametrize(
    "name, expected",
    [("Karras", "karras"), ("SGM Uniform", "trailing"), ("sgm_uniform", "trailing"), ("align_your_steps", "ays"), ("Automatic", None)],
)
def test_grids_of_other_programs(name, expected):
    assert find_grid(name) == expected


@pytest.mark.parametrize("table, ours", [(SAMPLER_ALIASES, SAMPLERS), (GRID_ALIASES, GRIDS)])
def test_the_table_is_whole_and_says_nothing_twice(table, ours):
    assert {*table} == {*ours}
    names = [fold(name) for name in list_names(table)]
    assert len({*names}) == len(names)


def test_classes_of_diffusers_exist():
    classes = [name for name in list_names(SAMPLER_ALIASES) if name.endswith("Scheduler")]
    assert len(classes) >= 10
    assert {*classes} <= {*dir(diffusers)}  # which imports none of them


@pytest.mark.parametrize("name", ["DPM++ 2M SDE Heun", "DPM fast", "Restart", "", "karras"])
def test_a_sampler_that_we_do_not_have_is_named(name):
    with pytest.raises(UnknownName) as caught:
        find_sampler(name)
    assert caught.value.hint


def test_a_grid_that_we_do_not_have_is_named():
    with pytest.raises(UnknownName) as caught:
        find_grid("Polyexponential")
    assert caught.value.hint
