"""Whole runs with the noise of other programs, against diffusers itself and against the loops of the others as their sources have them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import sqrt
from types import SimpleNamespace
from typing import Any, cast

import diffusers
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor

from eightfold.diffusion.grid import build_grid
from eightfold.diffusion.predict import to_clean
from eightfold.diffusion.samplers import Moment, build_sampler
from eightfold.families.sd1 import SD1
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.generate import Leg, NoiseStream
from eightfold.pipelines.noise import to_amplitude, to_noise_notes, vary
from eightfold.pipelines.request import Plan, Request, to_plan

PROCESS = SD1.process
SIZE, LATENT, SEED, STEPS = (40, 24), (4, 3, 5), 11, 8
TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "timestep_spacing": "trailing"}


def network(x: torch.Tensor, t: float) -> torch.Tensor:
    return torch.tanh(0.7 * x + t) - 0.4 * torch.sin(2 * x - 3 * t)


def denoise(x: torch.Tensor, moment: Moment) -> torch.Tensor:
    return to_clean(network(x, moment.t), x, PROCESS.alpha(moment.t), PROCESS.sigma(moment.t), "noise")


def build_plan(sampler: str, source: str, grid: str = "trailing") -> Plan:
    return to_plan(Request(prompt="x", size=SIZE, seed=SEED, steps=STEPS, sampler=sampler, grid=grid, noise_source=source), SD1)


def run_ours(plan: Plan) -> torch.Tensor:
    whole = SimpleNamespace(codec=SimpleNamespace(space=SD1.space), placement=SimpleNamespace(device="cpu"))
    noise = NoiseStream(cast(Model, whole), plan, plan.seed)
    times = build_grid(plan.grid, PROCESS, plan.steps)
    start = to_amplitude(plan, PROCESS, times[0]) * noise.draw()
    *_, last = build_sampler(plan.sampler)(denoise, start, PROCESS, times, noise)
    return last.noisy


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [
        ("euler-ancestral", "EulerAncestralDiscreteScheduler"),
        ("euler", "EulerDiscreteScheduler"),
        ("ddpm", "DDPMScheduler"),
        ("ddim", "DDIMScheduler"),
        ("dpm++2m", "DPMSolverMultistepScheduler"),
    ],
)
def test_a_batch_of_diffusers(sampler: str, scheduler: str) -> None:
    """One generator and three pictures at once, as in its pipelines: each is ours by its place."""
    extra: dict[str, Any] = {"clip_sample": False} if sampler in ("ddpm", "ddim") else {}
    extra |= {"set_alpha_to_one": True} if sampler == "ddim" else {}
    extra |= {"final_sigmas_type": "zero"} if sampler == "dpm++2m" else {}
    theirs = getattr(diffusers, scheduler)(**TABLE, **extra)
    theirs.set_timesteps(STEPS)
    generator = torch.Generator().manual_seed(SEED)
    x = randn_tensor((3, *LATENT), generator=generator, device=torch.device("cpu")) * theirs.init_noise_sigma
    draws = {} if sampler == "dpm++2m" else {"generator": generator}
    for number, timestep in enumerate(theirs.timesteps):
        output = network(theirs.scale_model_input(x, timestep), (STEPS - number) / STEPS)
        x = theirs.step(output, timestep, x, **draws).prev_sample
    for place in (1, 2, 3):
        ours = run_ours(build_plan(sampler, f"diffusers:{place}/3"))
        assert (ours - x[place - 1 : place]).abs().max().item() < 1e-4


def run_in_ratio(x: torch.Tensor, later: torch.Generator, *, ancestral: bool) -> torch.Tensor:
    """Euler's method with x = clean + ratio * noise, and for the ancestral one its two shares of the next ratio."""
    times = build_grid("trailing", PROCESS, STEPS)
    for number, (t, next_t) in enumerate(pairwise(times)):
        ratio, target = PROCESS.ratio(t), PROCESS.ratio(next_t)
        clean = denoise(x * PROCESS.alpha(t), Moment(number, t, next_t))
        up = min(target, sqrt(target**2 * (ratio**2 - target**2)) / ratio) if ancestral else 0.0
        x = x + (x - clean) / ratio * (sqrt(target**2 - up**2) - ratio)
        if ancestral and target > 0:
            x = x + torch.randn(x.shape, generator=later) * up
    return x


@pytest.mark.parametrize("ancestral", [True, False])
def test_a_picture_of_a1111(ancestral: bool) -> None:
    """Its first noise times the largest ratio; all from one generator."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(LATENT, generator=generator)[None] * PROCESS.ratio(1.0)
    expected = run_in_ratio(x, generator, ancestral=ancestral)
    found = run_ours(build_plan("euler-ancestral" if ancestral else "euler", "a1111"))
    assert (found - expected).abs().max().item() < 1e-4


@pytest.mark.parametrize("ancestral", [True, False])
def test_a_batch_of_comfy(ancestral: bool) -> None:
    """Its first noise times sqrt(1 + ratio**2), the batch at once; the rest from a generator of the next seed."""
    x = torch.randn((2, *LATENT), generator=torch.Generator().manual_seed(SEED)) * sqrt(1 + PROCESS.ratio(1.0) ** 2)
    expected = run_in_ratio(x, torch.Generator().manual_seed(SEED + 1), ancestral=ancestral)
    for place in (1, 2):
        found = run_ours(build_plan("euler-ancestral" if ancestral else "euler", f"comfy:{place}/2"))
        assert (found - expected[place - 1 : place]).abs().max().item() < 1e-4


def test_how_a_run_begins() -> None:
    sigma = PROCESS.sigma(1.0)
    cases = {("ours", "euler"): 1.0, ("a1111", "euler"): sigma, ("a1111:gpu", "ddim"): 1.0, ("comfy", "euler"): 1.0}
    cases |= {("diffusers", "heun"): sigma, ("diffusers", "ddim"): 1.0, ("diffusers", "dpm++2m"): 1.0}
    for (source, sampler), expected in cases.items():
        assert to_amplitude(build_plan(sampler, source), PROCESS, 1.0) == expected
    assert to_amplitude(build_plan("euler", "diffusers", grid="karras"), PROCESS, 1.0) == 1.0
    assert to_amplitude(build_plan("euler", "comfy"), PROCESS, 0.9) == PROCESS.sigma(0.9)


def test_what_is_not_reproduced_is_said() -> None:
    assert to_noise_notes(build_plan("euler-ancestral", "a1111:gpu")) == ()
    assert to_noise_notes(build_plan("dpm++sde", "ours")) == ()
    (note,) = to_noise_notes(build_plan("dpm++2m-sde", "comfy:1/2"))
    assert "first noise" in note and "comfy" in note and "dpm++2m-sde" in note


def test_a_variation_of_a1111() -> None:
    """Column by column, as its lines have it; where both noises are the same there is only one."""
    noise, other = (torch.randn(1, *LATENT, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    plan = replace(build_plan("euler", "a1111"), variation=0.3, variation_seed=2)
    found = vary(plan, noise, other)
    for channel in range(LATENT[0]):
        for column in range(LATENT[2]):
            one, two = (side[0, channel, :, column].double() for side in (noise, other))
            angle = torch.acos(one @ two / (one.norm() * two.norm()))
            expected = (torch.sin(0.7 * angle) * one + torch.sin(0.3 * angle) * two) / torch.sin(angle)
            assert torch.allclose(found[0, channel, :, column].double(), expected, atol=1e-4)
    assert torch.allclose(vary(plan, noise, noise), noise, atol=1e-5)
    assert torch.allclose(vary(replace(plan, variation=0.0), noise, other), noise, atol=1e-4)
    assert not torch.allclose(vary(replace(plan, noise_source="ours"), noise, other), found)


def test_a_second_pass_begins_anew() -> None:
    """Where the program would: in ours it goes on."""
    for source, is_anew in (("ours", False), ("a1111", True), ("comfy", True), ("diffusers", False)):
        whole = SimpleNamespace(codec=SimpleNamespace(space=SD1.space), placement=SimpleNamespace(device="cpu"))
        noise = NoiseStream(cast(Model, whole), build_plan("euler", source), SEED)
        leg = Leg(*SIZE, (1.0, 0.0))
        noise.turn_to(leg)
        first = noise.draw_first()
        noise.turn_to(leg)
        assert torch.equal(noise.draw_first(), first) == is_anew


def test_runs_begin_as_said(model: Model) -> None:
    """The same numbers from both, but for how strong the first ones are."""
    request = Request(prompt="a red cube", size=(16, 16), steps=2)
    for sampler, is_same in (("euler", False), ("ddim", True)):
        (*_, ours), (*_, theirs) = (model.generate(replace(request, sampler=sampler, noise_source=source)) for source in ("ours", "a1111"))
        assert torch.equal(ours.noisy, theirs.noisy) == is_same
        assert torch.allclose(ours.noisy, theirs.noisy, atol=0.2)
