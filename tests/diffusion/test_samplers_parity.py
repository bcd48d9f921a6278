"""Parity with the schedulers of diffusers, over 20 steps with a smooth stand-in for the network."""

from __future__ import annotations

import importlib
from itertools import pairwise

import diffusers
import pytest
import torch

from eightfold.diffusion.predict import to_clean
from eightfold.diffusion.samplers import build_sampler
from eightfold.specs.process import ScaledLinear

PROCESS = ScaledLinear()
STEPS = 20
TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
THEIR_WORD = {"noise": "epsilon", "velocity": "v_prediction"}
TRAILING = {"timestep_spacing": "trailing"}
LINSPACE = {"timestep_spacing": "linspace"}
KARRAS = {"use_karras_sigmas": True}
UNCLIPPED = {**TRAILING, "clip_sample": False}
ZERO_END = {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"}

CASES = [
    ("ddim", 0.0, "DDIMScheduler", {**UNCLIPPED, "set_alpha_to_one": True}),
    ("ddim", 0.7, "DDIMScheduler", {**UNCLIPPED, "set_alpha_to_one": True}),
    ("ddim", 1.0, "DDIMScheduler", {**UNCLIPPED, "set_alpha_to_one": True}),
    ("ddpm", 0.0, "DDPMScheduler", UNCLIPPED),
    ("euler", 0.0, "EulerDiscreteScheduler", TRAILING),
    ("euler", 0.0, "EulerDiscreteScheduler", LINSPACE),
    ("euler", 0.0, "EulerDiscreteScheduler", KARRAS),
    ("euler-ancestral", 0.0, "EulerAncestralDiscreteScheduler", TRAILING),
    ("euler-ancestral", 0.0, "EulerAncestralDiscreteScheduler", LINSPACE),
    ("heun", 0.0, "HeunDiscreteScheduler", TRAILING),
    ("heun", 0.0, "HeunDiscreteScheduler", KARRAS),
    ("dpm++2m", 0.0, "DPMSolverMultistepScheduler", {**ZERO_END, **TRAILING}),
    ("dpm++2m", 0.0, "DPMSolverMultistepScheduler", {**ZERO_END, **KARRAS}),
]


def draw(index):
    return torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(index), dtype=torch.float64)


def network(x, t):
    """Smooth, not linear, and different at every t."""
    return torch.tanh(0.7 * x + t) - 0.4 * torch.sin(2 * x - 3 * t)


def times_of(scheduler):
    """The times their scheduler visits: by its noise levels where it has them, else by its timesteps."""
    if hasattr(scheduler, "sigmas"):
        ratios = scheduler.sigmas.double().tolist()
        return tuple(PROCESS.t(ratio) for index, ratio in enumerate(ratios) if index == 0 or ratio != ratios[index - 1])
    return (*((step + 1) / 1000 for step in scheduler.timesteps.tolist()), 0.0)


def run_theirs(scheduler, x, times, eta, monkeypatch):
    in_ratio = scheduler.__class__.__name__.startswith(("Euler", "Heun"))  # these scale the state to a signal of 1
    drawn = iter(range(len(times)))
    monkeypatch.setattr(importlib.import_module(scheduler.__module__), "randn_tensor", lambda *_, **__: draw(next(drawn)), raising=False)
    visited = list(times[:-1])
    if "Heun" in scheduler.__class__.__name__:
        visited = [t for pair in pairwise(times) for t in pair][:-1]
    x = x / PROCESS.alpha(1.0) if in_ratio else x
    extra = {"eta": eta} if "DDIM" in scheduler.__class__.__name__ else {}
    for t, timestep in zip(visited, scheduler.timesteps, strict=True):
        output = network(scheduler.scale_model_input(x, timestep), t)
        x = scheduler.step(output, timestep, x, **extra).prev_sample
    return x


@pytest.mark.parametrize("prediction", ["noise", "velocity"])
@pytest.mark.parametrize("name, eta, scheduler, options", CASES)
def test_parity(name, eta, scheduler, options, prediction, monkeypatch):
    theirs = getattr(diffusers, scheduler)(**TABLE, **options, prediction_type=THEIR_WORD[prediction])
    theirs.set_timesteps(STEPS)
    times = times_of(theirs)
    assert len(times) == STEPS + 1

    def denoise(x, moment):
        return to_clean(network(x, moment.t), x, PROCESS.alpha(moment.t), PROCESS.sigma(moment.t), prediction)

    *_, ours = build_sampler(name, eta=eta)(denoise, draw(99), PROCESS, times, lambda moment: draw(moment.index))
    expected = run_theirs(theirs, draw(99), times, eta, monkeypatch)
    assert (ours.noisy - expected).abs().max().item() < 1e-4
