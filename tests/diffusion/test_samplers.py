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

PROCESS = ScaledLinear(knots=(1.0, 0.6, 0.2, 0.001))
FROM_NOISE = ScaledLinear(zero_terminal=True)
MEAN, SPREAD = 0.5, 0.7
SHAPE = (1, 4, 3, 2)
NOISY = {"ddpm", "euler-ancestral", "dpm2-ancestral", "dpm++2s-ancestral", "dpm++2m-sde", "dpm++3m-sde", "dpm++sde", "lcm"}
MULTISTEP = {"dpm++2m", "dpm++2m-sde", "dpm++3m", "dpm++3m-sde", "lms", "plms", "unipc", "unipc3"}
EXTRAPOLATED = {"lms", "plms"}  # to t = 0 as well: the last state is not the last estimate


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
@pytest.mark.parametrize(("steps", "dtype"), [(1, torch.float32), (2, torch.float64), (12, torch.float32)])
def test_finite_to_the_end(name, grid, steps, dtype):
    states = run(
        build_sampler(name), build_grid(grid, PROCESS, steps), x=draw(7, dtype=dtype), noise=lambda moment: draw(moment.index, dtype=dtype)
    )
    assert len(states) == steps
    assert all(state.isfinite().all() and state.dtype == dtype and state.shape == SHAPE for state in states)


@pytest.mark.parametrize("name", sorted({*SAMPLERS} - EXTRAPOLATED))
def test_the_last_state_is_the_last_estimate(name):
    *_, last = build_sampler(name)(wave, draw(7), PROCESS, build_grid("trailing", PROCESS, 5), fixed_noise)
    assert torch.allclose(last.noisy, last.clean, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_noise_gives_the_same_picture(name):
    times = build_grid("uniform", PROCESS, 5)
    first, again = (run(build_sampler(name), times) for _ in range(2))
    assert all(map(torch.equal, first, again))
    other = run(build_sampler(name), times, noise=lambda moment: draw(moment.index + 50))
    assert torch.equal(first[-1], other[-1]) == (name not in NOISY)


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_noise_is_asked_for_in_vain(name):
    asked = []

    def noise(moment):
        asked.append(moment)
        return fixed_noise(moment)

    run(build_sampler(name), (1.0, 0.5, 0.0), noise=noise)
    middle = PROCESS.t(math.sqrt(PROCESS.ratio(1.0) * PROCESS.ratio(0.5)))
    halves = [Moment(0, 1.0, middle), Moment(0, middle, 0.5)]
    assert asked == (halves if name == "dpm++sde" else [Moment(0, 1.0, 0.5)] if name in NOISY else [])


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_caller_may_replace_the_state(name):
    times, other = (0.9, 0.6, 0.3, 0.0), draw(42)
    sampler = build_sampler(name)(wave, draw(7), PROCESS, times, lambda moment: draw(0))
    next(sampler)
    sent = sampler.send(other)
    fresh = next(build_sampler(name)(wave, other, PROCESS, times[1:], lambda moment: draw(0)))
    assert torch.equal(sent.noisy, fresh.noisy)
    assert sent.moment == Moment(1, 0.6, 0.3)


@pytest.mark.parametrize("name", sorted(MULTISTEP - {"plms"}))
def test_multistep_forgets_when_it_is_sent_a_state(name):
    """Without a past every move is of first order; but the one of PLMS, which then makes a step of Heun's."""

    def finish(name, send):
        sampler = build_sampler(name)(wave, draw(7), PROCESS, build_grid("karras", PROCESS, 5), fixed_noise)
        step = next(sampler)
        while step.moment.next_t > 0:
            step = sampler.send(step.noisy if send else None)
        return step.noisy

    first_order = "ddpm" if name in NOISY else "euler"
    assert torch.allclose(finish(name, send=True), finish(first_order, send=True), atol=1e-12)
    assert not torch.allclose(finish(name, send=False), finish(first_order, send=False), atol=1e-3)


def to_middle(t, next_t):
    return PROCESS.t(math.sqrt(PROCESS.ratio(t) * PROCESS.ratio(next_t)))


LOOKS = {
    **dict.fromkeys(("heun", "dpm2-ancestral", "dpm++2s-ancestral"), (0.6, 0.3)),
    **dict.fromkeys(("dpm2", "dpm++sde"), (to_middle(0.9, 0.6), to_middle(0.6, 0.3))),
    "plms": (0.6,),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_where_estimates_are_made(name):
    """One at the start of every move, and those of second order one more within it, but for the last."""
    asked = []

    def denoise(x, moment):
        asked.append(moment)
        return wave(x, moment)

    times = (0.9, 0.6, 0.3, 0.0)
    run(build_sampler(name), times, denoise)
    expected = [Moment(index, t, next_t) for index, (t, next_t) in enumerate(pairwise(times))]
    expected += [Moment(index, t, t) for index, t in enumerate(LOOKS.get(name, ()))]
    assert sorted(asked, key=lambda moment: (moment.index, -moment.t)) == sorted(expected, key=lambda moment: (moment.index, -moment.t))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("grid", ["uniform", "trailing", "leading"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_from_noise_alone(name, grid, steps):
    """Where alpha is 0 at t = 1 the first move is of first order, and what follows does not remember it."""

    def level(x, moment):
        return torch.tanh(x + moment.t)

    times = build_grid(grid, FROM_NOISE, steps)
    states = [step.noisy for step in build_sampler(name)(level, draw(7), FROM_NOISE, times, fixed_noise)]
    assert len(states) == steps
    assert all(state.isfinite().all() for state in states)
    if times[0] == 1 and steps > 1:
        first_order = build_sampler("ddpm" if name in NOISY else "euler")(level, draw(7), FROM_NOISE, times, fixed_noise)
        assert torch.allclose(states[0], next(first_order).noisy, atol=1e-12)
        rest = [step.noisy for step in build_sampler(name)(level, states[0], FROM_NOISE, times[1:], fixed_later)]
        assert torch.allclose(states[-1], rest[-1], atol=1e-12)


def fixed_later(moment):
    return draw(moment.index + 1)


@pytest.mark.parametrize("name", sorted({*SAMPLERS} - {"lcm"}))
def test_an_estimate_that_never_changes_is_reached_on_a_straight_line(name):
    """Extrapolation and look-ahead then change nothing: in x / alpha every sampler is Euler's, or DDPM's."""
    target = draw(5)
    times = build_grid("karras", PROCESS, 6)

    def finish(name):
        return run(build_sampler(name), times, lambda x, moment: target, noise=lambda moment: torch.zeros_like(target))

    pairs = zip(finish(name), finish("ddpm" if name in NOISY else "euler"), strict=True)
    assert all(torch.allclose(*pair, atol=1e-10) for pair in pairs)


def test_lcm_noises_its_estimate_anew():
    shape = (1, 1, 1, 200_000)
    clean = draw(1, shape)
    (moved,) = run(build_sampler("lcm"), (0.8, 0.5), lambda x, moment: clean, draw(2, shape), lambda moment: draw(3, shape))
    assert torch.allclose(moved, PROCESS.alpha(0.5) * clean + PROCESS.sigma(0.5) * draw(3, shape))


@pytest.mark.parametrize("name", sorted(NOISY - {"lcm"}))
def test_drawn_noise_keeps_the_level(name):
    """If the estimate is right, every sampler that draws leads from noise level sigma to noise level sigma'."""
    shape = (1, 1, 1, 200_000)
    clean = draw(1, shape)
    x = PROCESS.alpha(0.9) * clean + PROCESS.sigma(0.9) * draw(2, shape)
    seeds = iter(range(3, 20))
    states = run(build_sampler(name), (0.9, 0.6, 0.5, 0.4), lambda x, moment: clean, x, lambda moment: draw(next(seeds), shape))
    left = (states[-1] - PROCESS.alpha(0.4) * clean) / PROCESS.sigma(0.4)
    assert left.var().item() == pytest.approx(1, abs=3 * math.sqrt(2 / shape[-1]))


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
