"""How fast each sampler's error falls with the step, where the paths are known exactly."""

from __future__ import annotations

import math

import pytest
import torch

from eightfold.diffusion.samplers import SAMPLERS, build_sampler
from eightfold.specs.process import ScaledLinear

PROCESS = ScaledLinear()
MEAN, SPREAD = 0.5, 0.7
TOP, BOTTOM = 10.0, 0.1  # ratios
SHARE = 0.8

# The estimate below takes away SHARE of the noise that the best one for data N(MEAN, SPREAD**2) would: with that one DDPM has no error in
# the mean. Along the probability flow x / alpha - MEAN goes as (SPREAD**2 + ratio**2) ** (SHARE / 2); the mean over the noise that samplers
# draw, which is what they give where all draws are 0, as the square of that.
FLOWS = {"euler": 1, "ddim": 1, "heun": 2, "dpm2": 2, "dpm++2m": 2, "dpm++3m": 2, "lms": 4, "plms": 2, "unipc": 3, "unipc3": 4}
MEANS = {"ddpm": 1, "euler-ancestral": 1, "dpm2-ancestral": 1, "dpm++2s-ancestral": 1, "dpm++2m-sde": 2, "dpm++3m-sde": 2, "dpm++sde": 2}


def estimate(x, moment):
    alpha, ratio = PROCESS.alpha(moment.t), PROCESS.ratio(moment.t)
    return MEAN + (1 - SHARE * ratio**2 / (SPREAD**2 + ratio**2)) * (x / alpha - MEAN)


def error_at(name, steps, power):
    """Even in log(ratio) from TOP to BOTTOM. Short moves at the start keep those of lower order from being all of the error, and so do two
    moves more at the end.
    """
    width = math.log(TOP / BOTTOM) / steps
    starts = [0.0, width**2, *(index / 8 for index in range(1, 8))]
    ratios = [TOP * math.exp(-width * index) for index in (*starts, *range(1, steps + 3))]
    x = torch.full((1, 1, 1, 1), PROCESS.alpha(PROCESS.t(TOP)) * (MEAN + 1), dtype=torch.float64)
    states = build_sampler(name)(estimate, x, PROCESS, [PROCESS.t(ratio) for ratio in ratios], lambda moment: torch.zeros_like(x))
    end = [step.noisy for step in states][steps + len(starts) - 2].item() / PROCESS.alpha(PROCESS.t(BOTTOM))
    return abs(end - MEAN - ((SPREAD**2 + BOTTOM**2) / (SPREAD**2 + TOP**2)) ** (power * SHARE / 2))


@pytest.mark.parametrize("name, order, power", [(*item, 1) for item in FLOWS.items()] + [(*item, 2) for item in MEANS.items()])
def test_order_of_convergence(name, order, power):
    coarse, fine = (error_at(name, steps, power) for steps in (160, 320))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


def test_every_sampler_that_has_an_order_is_measured():
    assert {*FLOWS} | {*MEANS} | {"lcm"} == {*SAMPLERS}
