"""Parity with the schedulers of diffusers, over 20 steps with a smooth stand-in for the network."""

from __future__ import annotations

import importlib
import math
import sys
from itertools import pairwise
from types import ModuleType

import diffusers
import pytest
import torch

from eightfold.diffusion.predict import to_clean
from eightfold.diffusion.samplers import Moment, build_sampler
from eightfold.specs.process import Edm, ScaledLinear

PROCESS = ScaledLinear()
STEPS = 20
TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
THEIR_WORD = {"noise": "epsilon", "velocity": "v_prediction"}
TRAILING = {"timestep_spacing": "trailing"}
LINSPACE = {"timestep_spacing": "linspace"}
KARRAS = {"use_karras_sigmas": True}
EXPONENTIAL = {"use_exponential_sigmas": True}
UNCLIPPED = {**TRAILING, "clip_sample": False}
LEADING = {"timestep_spacing": "leading", "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": True}
ZERO_END = {"algorithm_type": "dpmsolver++", "final_sigmas_type": "zero"}
SDE = {**ZERO_END, "algorithm_type": "sde-dpmsolver++"}

CASES = [
    ("ddim", 0.0, "DDIMScheduler", {**UNCLIPPED, "set_alpha_to_one": True}),
    ("ddim", 0.7, "DDIMScheduler", {**UNCLIPPED, "set_alpha_to_one": True}),
    ("ddim", 1.0, "DDIMScheduler", {**UNCLIPPED, "set_alpha_to_one": True}),
    ("ddim", 0.7, "DDIMScheduler", LEADING),
    ("ddpm", 0.0, "DDPMScheduler", UNCLIPPED),
    ("euler", 0.0, "EulerDiscreteScheduler", TRAILING),
    ("euler", 0.0, "EulerDiscreteScheduler", LINSPACE),
    ("euler", 0.0, "EulerDiscreteScheduler", KARRAS),
    ("euler-ancestral", 0.0, "EulerAncestralDiscreteScheduler", TRAILING),
    ("euler-ancestral", 0.0, "EulerAncestralDiscreteScheduler", LINSPACE),
    ("heun", 0.0, "HeunDiscreteScheduler", TRAILING),
    ("heun", 0.0, "HeunDiscreteScheduler", KARRAS),
    ("dpm2", 0.0, "KDPM2DiscreteScheduler", TRAILING),
    ("dpm2", 0.0, "KDPM2DiscreteScheduler", EXPONENTIAL),
    ("dpm2-ancestral", 0.0, "KDPM2AncestralDiscreteScheduler", TRAILING),
    ("dpm2-ancestral", 0.0, "KDPM2AncestralDiscreteScheduler", EXPONENTIAL),
    ("dpm++2m", 0.0, "DPMSolverMultistepScheduler", {**ZERO_END, **TRAILING}),
    ("dpm++2m", 0.0, "DPMSolverMultistepScheduler", {**ZERO_END, **KARRAS}),
    ("dpm++2m-sde", 0.0, "DPMSolverMultistepScheduler", {**SDE, **TRAILING}),
    ("dpm++2m-sde", 0.0, "DPMSolverMultistepScheduler", {**SDE, **KARRAS}),
    ("dpm++3m", 0.0, "DPMSolverMultistepScheduler", {**ZERO_END, **TRAILING, "solver_order": 3, "solver_type": "heun"}),
    ("dpm++3m", 0.0, "DPMSolverMultistepScheduler", {**ZERO_END, **KARRAS, "solver_order": 3, "solver_type": "heun"}),
    ("dpm++sde", 0.0, "DPMSolverSDEScheduler", TRAILING),
    ("dpm++sde", 0.0, "DPMSolverSDEScheduler", EXPONENTIAL),
    ("lms", 0.0, "LMSDiscreteScheduler", TRAILING),
    ("lms", 0.0, "LMSDiscreteScheduler", KARRAS),
    ("plms", 0.0, "PNDMScheduler", {**TRAILING, "skip_prk_steps": True, "set_alpha_to_one": True}),
    ("unipc", 0.0, "UniPCMultistepScheduler", TRAILING),
    ("unipc", 0.0, "UniPCMultistepScheduler", KARRAS),
    ("unipc3", 0.0, "UniPCMultistepScheduler", {**TRAILING, "solver_order": 3}),
    ("unipc3", 0.0, "UniPCMultistepScheduler", {**KARRAS, "solver_order": 3}),
    ("lcm", 0.0, "LCMScheduler", {}),
]
IN_RATIO = ("Euler", "Heun", "KDPM2", "LMS", "DPMSolverSDE")  # these scale the state to a signal of 1


def draw(index):
    return torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(index), dtype=torch.float64)


def network(x, t):
    """Smooth, not linear, and different at every t."""
    return torch.tanh(0.7 * x + t) - 0.4 * torch.sin(2 * x - 3 * t)


def build_theirs(name, options, monkeypatch):
    if name == "DPMSolverSDEScheduler":  # it imports a library for its noise, which is replaced below
        monkeypatch.setitem(sys.modules, "torchsde", ModuleType("torchsde"))
        scheduler = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde").DPMSolverSDEScheduler
    else:
        scheduler = getattr(diffusers, name)
    theirs = scheduler(**TABLE, **options)
    theirs.set_timesteps(STEPS)
    return theirs


def times_of(scheduler):
    """The times their scheduler visits: by its noise levels where it has them, else by its timesteps."""
    if hasattr(scheduler, "sigmas"):
        ratios = scheduler.sigmas.double().tolist()
        return tuple(PROCESS.t(ratio) for index, ratio in enumerate(ratios) if index == 0 or ratio != ratios[index - 1])
    return (*dict.fromkeys((step + 1) / 1000 for step in scheduler.timesteps.tolist()), 0.0)


def to_middle(t, next_t):
    return PROCESS.t(math.sqrt(PROCESS.ratio(t) * PROCESS.ratio(next_t)))


def list_visited(name, times):
    """The time of every evaluation."""
    if name in ("heun", "dpm2-ancestral"):
        return [t for pair in pairwise(times) for t in pair][:-1]
    if name in ("dpm2", "dpm++sde"):
        return [t for pair in pairwise(times) for t in (pair[0], to_middle(*pair))][:-1]
    return [times[0], times[1], *times[1:-1]] if name == "plms" else list(times[:-1])


def run_theirs(name, scheduler, times, eta, monkeypatch):
    in_ratio = type(scheduler).__name__.startswith(IN_RATIO)
    drawn = iter(range(len(times)))
    monkeypatch.setattr(importlib.import_module(scheduler.__module__), "randn_tensor", lambda *_, **__: draw(next(drawn)), raising=False)
    if name == "dpm++sde":
        scheduler.noise_sampler = build_path(times)
    x = draw(99) / PROCESS.alpha(times[0]) if in_ratio else draw(99)
    extra = {"eta": eta} if name == "ddim" else {}
    for t, timestep in zip(list_visited(name, times), scheduler.timesteps, strict=True):
        output = network(scheduler.scale_model_input(x, timestep), t)
        x = scheduler.step(output, timestep, x, **extra).prev_sample
    return x


def build_path(times):
    """A Brownian motion over the noise levels, drawn from the halves of moves, as DPMSolverSDEScheduler asks for its increments."""
    moves = [(t, to_middle(t, next_t), next_t) for t, next_t in pairwise(times[:-1])]
    halves = [half for t, middle, next_t in moves for half in ((t, middle), (middle, next_t))]
    levels, places = [PROCESS.ratio(times[0])], [torch.zeros(())]
    for t, next_t in halves:
        levels.append(PROCESS.ratio(next_t))
        places.append(places[-1] + math.sqrt(PROCESS.ratio(t) - PROCESS.ratio(next_t)) * half_noise(Moment(0, t, next_t)))

    def increment(start, end):
        first, last = (min(range(len(levels)), key=lambda index: abs(levels[index] - float(level))) for level in (start, end))
        return (places[last] - places[first]) / math.sqrt(levels[first] - levels[last])

    return increment


def half_noise(moment):
    return draw(round(1e6 * moment.t) + round(1e6 * moment.next_t))


def denoise_as(prediction):
    def denoise(x, moment):
        return to_clean(network(x, moment.t), x, PROCESS.alpha(moment.t), PROCESS.sigma(moment.t), prediction)

    return denoise


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # in diffusers, of numpy
@pytest.mark.parametrize("prediction", ["noise", "velocity"])
@pytest.mark.parametrize("name, eta, scheduler, options", CASES)
def test_parity(name, eta, scheduler, options, prediction, monkeypatch):
    if name == "plms" and prediction == "velocity":
        pytest.skip("theirs averages velocities of several times and takes the mean for one of this time")
    theirs = build_theirs(scheduler, {**options, "prediction_type": THEIR_WORD[prediction]}, monkeypatch)
    times = times_of(theirs)
    assert len(times) == STEPS + 1
    noise = half_noise if name == "dpm++sde" else lambda moment: draw(moment.index)
    *_, ours = build_sampler(name, eta=eta)(denoise_as(prediction), draw(99), PROCESS, times, noise)
    expected = run_theirs(name, theirs, times, eta, monkeypatch)
    assert (ours.noisy - expected).abs().max().item() < 1e-4


def third_order(x, clean, levels):
    """One move of k-diffusion's 3M SDE without its noise, in the ratio, from three clean estimates and four noise levels, latest first."""
    end, *before = (-math.log(level) for level in levels)
    width, last, earlier = end - before[0], before[0] - before[1], before[1] - before[2]
    decay = math.exp(-2 * width)
    r0, r1 = last / width, earlier / width
    d0, d1 = (clean[0] - clean[1]) / r0, (clean[1] - clean[2]) / r1
    first, second = d0 + (d0 - d1) * r0 / (r0 + r1), (d0 - d1) / (r0 + r1)
    phi_2 = (decay - 1) / (2 * width) + 1
    return decay * x + (1 - decay) * clean[0] + phi_2 * first - (phi_2 / (2 * width) - 0.5) * second


def test_third_order_sde_is_that_of_k_diffusion():
    """diffusers' variant of order 3 has another sign in its last coefficient, which does not vanish with the step."""
    times = (0.9, 0.7, 0.6, 0.45)
    denoise = denoise_as("velocity")
    steps = list(build_sampler("dpm++3m-sde")(denoise, draw(1), PROCESS, times, lambda moment: draw(moment.index)))
    states = [draw(1), *(step.noisy for step in steps)]
    levels = [PROCESS.ratio(t) for t in reversed(times)]
    mean = third_order(states[2] / PROCESS.alpha(0.6), [step.clean for step in reversed(steps)], levels)
    fresh = levels[0] * math.sqrt(1 - (levels[0] / levels[1]) ** 2) * draw(2)
    assert torch.allclose(steps[-1].noisy / PROCESS.alpha(0.45), mean + fresh, atol=1e-12)


def test_second_order_ancestral_is_that_of_k_diffusion():
    """DPM++ 2S a, two moves in the ratio: down to the level r'**2 / r by the midpoint rule for clean estimates, then up."""
    times = (0.9, 0.6, 0.4)
    denoise = denoise_as("noise")
    x = draw(1) / PROCESS.alpha(0.9)
    for index, (t, next_t) in enumerate(pairwise(times)):
        level, end = PROCESS.ratio(t), PROCESS.ratio(next_t)
        down, middle = end**2 / level, math.sqrt(level * end**2 / level)
        clean = denoise(PROCESS.alpha(t) * x, Moment(index, t, next_t))
        ahead = middle / level * x + (1 - middle / level) * clean
        clean = denoise(PROCESS.alpha(PROCESS.t(middle)) * ahead, Moment(index, PROCESS.t(middle), next_t))
        x = down / level * x + (1 - down / level) * clean + math.sqrt(end**2 - down**2) * draw(index)
    *_, last = build_sampler("dpm++2s-ancestral")(denoise, draw(1), PROCESS, times, lambda moment: draw(moment.index))
    assert torch.allclose(last.noisy / PROCESS.alpha(0.4), x, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_parity_from_noise_alone(eta, monkeypatch):
    """A process whose table ends at alpha 0."""
    process = ScaledLinear(zero_terminal=True)
    options = {**UNCLIPPED, "set_alpha_to_one": True, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    theirs = build_theirs("DDIMScheduler", options, monkeypatch)
    times = times_of(theirs)

    def denoise(x, moment):
        return to_clean(network(x, moment.t), x, process.alpha(moment.t), process.sigma(moment.t), "velocity")

    *_, ours = build_sampler("ddim", eta=eta)(denoise, draw(99), process, times, lambda moment: draw(moment.index))
    assert (ours.noisy - run_theirs("ddim", theirs, times, eta, monkeypatch)).abs().max().item() < 1e-4


@pytest.mark.parametrize("name, scheduler", [("euler", "EDMEulerScheduler"), ("dpm++2m", "EDMDPMSolverMultistepScheduler")])
def test_parity_on_the_process_of_edm(name, scheduler):
    process = Edm(spread=0.5)
    theirs = getattr(diffusers, scheduler)(sigma_data=0.5, prediction_type="v_prediction")
    theirs.set_timesteps(STEPS)
    times = tuple(process.t(level / 0.5) for level in theirs.sigmas.double().tolist())
    assert [process.timestep(t) for t in times[:-1]] == pytest.approx(theirs.timesteps.tolist(), abs=1e-5)

    def denoise(x, moment):
        return to_clean(network(x, moment.t), x, process.alpha(moment.t), process.sigma(moment.t), "velocity")

    *_, ours = build_sampler(name)(denoise, draw(99), process, times, draw)
    x = 0.5 * draw(99) / process.alpha(times[0])
    for t, timestep in zip(times, theirs.timesteps, strict=False):
        x = theirs.step(network(theirs.scale_model_input(x, timestep), t), timestep, x).prev_sample
    assert (ours.noisy - x / 0.5).abs().max().item() < 1e-4
