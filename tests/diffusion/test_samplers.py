"""Samplers on data whose path is known exactly, N(MEAN, SPREAD**2), and the promises every sampler keeps."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from eightfold.core.errors import RequestError, UnknownName
from eightfold.diffusion.grid import GRIDS, build_grid
from eightfold.diffusion.samplers import SAMPLERS, Moment, build_sampler
from eightfold.specs.process import ScaledLinear

PROCESS = ScaledLinear()
MEAN, SPREAD = 0.5, 0.7
SHAPE = (1, 4, 3, 2)


def spread(t):
    return math.hypot(PROCESS.alpha(t) * SPREAD, PROCESS.sigma(t))


def posterior_mean(x, moment):
    """The best clean estimate there is for data N(MEAN, SPREAD**2)."""
    alpha = PROCESS.alpha(moment.t)
    return MEAN + alpha * SPREAD**2 / spread(moment.t) ** 2 * (x - alpha * MEAN)


def draw(index, shape=SHAPE, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(index), dtype=dtype)


def fixed_noise(moment):
    return draw(moment.index)


def wave(x, moment):
    return torch.tanh(0.8 * x + moment.t) + 0.3 * torch.cos(3 * x)


def run(sampler, times, denoise=wave, x=None, noise=fixed_noise):
    return [step.noisy for step in sampler(denoise, draw(1000) if x is None else x, PROCESS, times, noise)]


def error_at(sampler, steps):
    """The path keeps (x - alpha * MEAN) / spread: start one spread above the mean, and the end should lie there too. t from 0.9 to 0.1."""
    times = [(900 - 800 * index / steps) / 1000 for index in range(steps + 1)]
    x = torch.full((1, 1, 1, 1), PROCESS.alpha(times[0]) * MEAN + spread(times[0]), dtype=torch.float64)
    end = run(sampler, times, posterior_mean, x)[-1].item()
    return abs(end - PROCESS.alpha(times[-1]) * MEAN - spread(times[-1]))


@pytest.mark.parametrize("name, order", [("euler", 1), ("ddim", 1), ("heun", 2), ("dpm++2m", 2)])
def test_order_of_convergence(name, order):
    coarse, fine = (error_at(build_sampler(name), steps) for steps in (100, 200))  # all times lie on table entries
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


def recur(times, eta):
    """Mean and variance the sampler must reach: a move is linear here, so both are exact (arXiv 2010.02502, equations 12 and 16)."""
    mean, variance = PROCESS.alpha(times[0]) * MEAN, spread(times[0]) ** 2
    for t, next_t in pairwise(times):
        alpha, sigma, next_alpha, next_sigma = PROCESS.alpha(t), PROCESS.sigma(t), PROCESS.alpha(next_t), PROCESS.sigma(next_t)
        drawn = eta * next_sigma / sigma * math.sqrt(1 - (alpha / next_alpha) ** 2)
        kept = math.sqrt(next_sigma**2 - drawn**2) / sigma
        pull = alpha * SPREAD**2 / spread(t) ** 2  # clean = pull * x + rest
        rest = MEAN * (1 - alpha * pull)
        slope = next_alpha * pull + kept * (1 - alpha * pull)
        mean = slope * mean + (next_alpha - kept * alpha) * rest
        variance = slope**2 * variance + drawn**2
    return mean, variance


@pytest.mark.parametrize("name, eta", [("ddpm", 1.0), ("ddim", 1.0), ("ddim", 0.5), ("euler-ancestral", 1.0)])
def test_samples_have_the_mean_and_variance_they_should(name, eta):
    """The reference is the exact recursion, which has the same discretisation error; within three standard errors."""
    count, times = 200_000, build_grid("trailing", PROCESS, 50)
    random = torch.Generator().manual_seed(5)
    x = PROCESS.alpha(1.0) * MEAN + spread(1.0) * torch.randn(1, 1, 1, count, generator=random)
    sampler = build_sampler(name, eta=eta if name == "ddim" else 0.0)
    drawn = run(sampler, times, posterior_mean, x, lambda _: torch.randn(x.shape, generator=random))[-1].double()
    mean, variance = recur(times, eta)
    assert abs(drawn.mean().item() - mean) < 3 * math.sqrt(variance / count)
    assert abs(drawn.var().item() / variance - 1) < 3 * math.sqrt(2 / count)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_recursion_leads_to_the_data(eta):
    """What the test above compares with comes to N(MEAN, SPREAD**2), and its error in the variance halves with the step."""
    (mean, coarse), (_, fine) = (recur(build_grid("trailing", PROCESS, steps), eta) for steps in (500, 1000))
    assert mean == pytest.approx(MEAN, abs=1e-9)
    assert (coarse - SPREAD**2) / (fine - SPREAD**2) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_fresh_noise_keeps_the_level(eta):
    """If the estimate is right, a move leads from noise level sigma to noise level sigma', whatever eta."""
    shape = (1, 1, 1, 200_000)
    clean = draw(1, shape)
    x = PROCESS.alpha(0.8) * clean + PROCESS.sigma(0.8) * draw(2, shape)
    (moved,) = run(build_sampler("ddim", eta=eta), (0.8, 0.5), lambda x, moment: clean, x, lambda moment: draw(3, shape))
    left = (moved - PROCESS.alpha(0.5) * clean) / PROCESS.sigma(0.5)
    assert left.var().item() == pytest.approx(1, abs=3 * math.sqrt(2 / shape[-1]))


def test_ancestral_names_are_ddim_with_eta_1():
    times = build_grid("karras", PROCESS, 6)
    reference = run(build_sampler("ddim", eta=1.0), times)
    for name in ("ddpm", "euler-ancestral"):
        assert all(map(torch.equal, run(build_sampler(name), times), reference))


def test_euler_is_ddim_without_noise():
    times = build_grid("trailing", PROCESS, 6)
    assert all(torch.allclose(*pair) for pair in zip(run(build_sampler("euler"), times), run(build_sampler("ddim"), times), strict=True))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_to_the_end(name, grid, steps, dtype):
    states = run(
        build_sampler(name), build_grid(grid, PROCESS, steps), x=draw(7, dtype=dtype), noise=lambda moment: draw(moment.index, dtype=dtype)
    )
    assert len(states) == steps
    assert all(state.isfinite().all() and state.dtype == dtype and state.shape == SHAPE for state in states)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_last_state_is_the_last_estimate(name):
    *_, last = build_sampler(name)(wave, draw(7), PROCESS, build_grid("trailing", PROCESS, 5), fixed_noise)
    assert torch.allclose(last.noisy, last.clean, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_noise_gives_the_same_picture(name):
    times = build_grid("uniform", PROCESS, 5)
    first, again = (run(build_sampler(name), times) for _ in range(2))
    assert all(map(torch.equal, first, again))
    other = run(build_sampler(name), times, noise=lambda moment: draw(moment.index + 50))
    assert torch.equal(first[-1], other[-1]) == (name not in ("ddpm", "euler-ancestral"))


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_noise_is_asked_for_in_vain(name):
    asked = []

    def noise(moment):
        asked.append(moment)
        return fixed_noise(moment)

    run(build_sampler(name), (1.0, 0.5, 0.0), noise=noise)
    assert asked == ([Moment(0, 1.0, 0.5)] if name in ("ddpm", "euler-ancestral") else [])


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_caller_may_replace_the_state(name):
    times, other = (0.9, 0.6, 0.3, 0.0), draw(42)
    sampler = build_sampler(name)(wave, draw(7), PROCESS, times, lambda moment: draw(0))
    next(sampler)
    sent = sampler.send(other)
    fresh = next(build_sampler(name)(wave, other, PROCESS, times[1:], lambda moment: draw(0)))
    assert torch.equal(sent.noisy, fresh.noisy)
    assert sent.moment == Moment(1, 0.6, 0.3)


def test_multistep_forgets_when_it_is_sent_a_state():
    def finish(name, send):
        sampler = build_sampler(name)(wave, draw(7), PROCESS, build_grid("karras", PROCESS, 5), fixed_noise)
        step = next(sampler)
        while step.moment.next_t > 0:
            step = sampler.send(step.noisy if send else None)
        return step.noisy

    assert torch.equal(finish("dpm++2m", send=True), finish("euler", send=True))
    assert not torch.allclose(finish("dpm++2m", send=False), finish("euler", send=False), atol=1e-3)


def test_heun_looks_ahead_but_for_the_last_move():
    asked = []

    def denoise(x, moment):
        asked.append(moment)
        return wave(x, moment)

    run(build_sampler("heun"), (0.9, 0.4, 0.0), denoise)
    assert asked == [Moment(0, 0.9, 0.4), Moment(0, 0.4, 0.4), Moment(1, 0.4, 0.0)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_gradient_is_kept_and_the_caller_keeps_its_own(name):
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    for step in build_sampler(name)(lambda x, moment: weight * x, draw(7), PROCESS, (0.9, 0.4, 0.0), fixed_noise):
        assert not step.noisy.requires_grad
        assert torch.is_grad_enabled()


def test_what_cannot_be_is_refused():
    with pytest.raises(UnknownName) as caught:
        build_sampler("dpm2m")
    assert "dpm++2m" in caught.value.hint
    for name in set(SAMPLERS) - {"ddim"}:
        with pytest.raises(RequestError, match="eta") as refused:
            build_sampler(name, eta=0.5)
        assert "ddim" in refused.value.hint
    for eta in (-0.1, 1.5, float("nan")):
        with pytest.raises(RequestError, match="expected 0 to 1"):
            build_sampler("ddim", eta=eta)
