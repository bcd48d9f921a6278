"""Samplers are generators: one Step out per move, and the caller may send another state back.

The caller owns the loop, so progress, previews, inpainting and cancelling need no callbacks. `x` is always
alpha(t) * clean + sigma(t) * noise; a sampler that thinks in the ratio sigma / alpha converts inside.
Every sampler is called as `sampler(denoise, x, process, times, noise)`; those that draw no noise ignore the last.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import isinf, log, sqrt
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import RequestError, UnknownName
from ..specs.process import Process
from .predict import to_noise


@dataclass(frozen=True, slots=True)
class Moment:
    """One move: its number, the time it starts from and the time it leads to. (Where there is a look ahead, both are the later one.)"""

    index: int
    t: float
    next_t: float


class Step(NamedTuple):
    """What a move gave: `noisy` is the state at moment.next_t, `clean` the denoiser's latest estimate behind it."""

    moment: Moment
    noisy: Float[Tensor, "b c h w"]
    clean: Float[Tensor, "b c h w"]


Denoise = Callable[[Tensor, Moment], Tensor]  # noisy at moment.t -> clean, the prediction type already undone
Noise = Callable[[Moment], Tensor]  # standard normal, of the state's shape
Steps = Generator[Step, Tensor | None, None]
Sampler = Callable[[Denoise, Tensor, Process, Sequence[float], Noise], Steps]


def to_moments(times: Sequence[float]) -> list[Moment]:
    return [Moment(index, t, next_t) for index, (t, next_t) in enumerate(pairwise(times))]


def advance(x: Tensor, clean: Tensor, process: Process, moment: Moment) -> Tensor:
    """alpha' * clean + sigma' * noise, with the noise that x and clean imply. Finite at t = 1, where alpha may be 0."""
    noise = to_noise(clean, x, process.alpha(moment.t), process.sigma(moment.t))
    return process.alpha(moment.next_t) * clean + process.sigma(moment.next_t) * noise


@torch.no_grad()
def euler(denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise) -> Steps:
    """First order, no noise: Euler in the ratio (arXiv 2206.00364), which is DDIM with eta 0 (arXiv 2010.02502, equation 12)."""
    for moment in to_moments(times):
        clean = denoise(x, moment)
        x = advance(x, clean, process, moment)
        sent = yield Step(moment, x, clean)
        x = x if sent is None else sent


@torch.no_grad()
def ddim(denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise, eta: float = 0.0) -> Steps:
    """First order, part of the noise drawn afresh in each move (arXiv 2010.02502, equations 12 and 16).

    `eta` 0 draws none. `eta` 1 samples the posterior q(x' | x, clean): that is DDPM with the smaller of its two variances
    (arXiv 2006.11239, equation 7) on any grid, and Euler ancestral sampling is the same move written in the ratio.
    With q = ratio' / ratio the posterior keeps the share q of the noise in x and draws sqrt(1 - q**2) anew. No draw is made for
    a move to t = 0.
    """
    for moment in to_moments(times):
        alpha, sigma = process.alpha(moment.t), process.sigma(moment.t)
        next_alpha, next_sigma = process.alpha(moment.next_t), process.sigma(moment.next_t)
        clean = denoise(x, moment)
        fresh = eta * sqrt(1 - (alpha * next_sigma / (next_alpha * sigma)) ** 2)
        implied = to_noise(clean, x, alpha, sigma)
        x = next_alpha * clean + next_sigma * sqrt(1 - fresh**2) * implied
        if fresh > 0 and next_sigma > 0:
            x = x + next_sigma * fresh * noise(moment)
        sent = yield Step(moment, x, clean)
        x = x if sent is None else sent


@torch.no_grad()
def heun(denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise) -> Steps:
    """Second order, two evaluations a move but for the last: the trapezoid rule in the ratio (arXiv 2206.00364, algorithm 1).

    Needs a finite ratio at every time, that is alpha > 0.
    """
    for moment in to_moments(times):
        ratio, next_ratio = process.ratio(moment.t), process.ratio(moment.next_t)
        alpha, next_alpha = process.alpha(moment.t), process.alpha(moment.next_t)
        clean = denoise(x, moment)
        slope = (x / alpha - clean) / ratio
        ahead = x / alpha + (next_ratio - ratio) * slope
        if next_ratio > 0:
            clean = denoise(next_alpha * ahead, Moment(moment.index, moment.next_t, moment.next_t))
            slope = (slope + (ahead - clean) / next_ratio) / 2
            ahead = x / alpha + (next_ratio - ratio) * slope
        x = next_alpha * ahead
        sent = yield Step(moment, x, clean)
        x = x if sent is None else sent


@torch.no_grad()
def dpm_2m(denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise) -> Steps:
    """Second order, one evaluation a move: DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2).

    The clean estimate is extrapolated, in log(ratio), to the middle of the move from this estimate and the one before.
    The first move and the one to t = 0 are first order. A state sent by the caller makes the earlier estimate meaningless:
    it is dropped, and the next move is first order again.
    """
    before: Tensor | None = None
    width = 0.0  # of the move before, in log(ratio)
    for moment in to_moments(times):
        clean = denoise(x, moment)
        guess, last_width = clean, width
        width = to_width(process, moment)
        if before is not None and not isinf(width):
            guess = clean + (clean - before) * (width / (2 * last_width))
        x = advance(x, guess, process, moment)
        before = clean
        sent = yield Step(moment, x, clean)
        if sent is not None:
            x, before = sent, None


def to_width(process: Process, moment: Moment) -> float:
    """log(ratio / ratio'), infinite where the move ends at 0."""
    end = process.ratio(moment.next_t)
    return log(process.ratio(moment.t) / end) if end > 0 else float("inf")


SAMPLERS: dict[str, Sampler] = {
    "ddpm": partial(ddim, eta=1.0),
    "ddim": ddim,
    "euler": euler,
    "euler-ancestral": partial(ddim, eta=1.0),
    "heun": heun,
    "dpm++2m": dpm_2m,
}


def build_sampler(name: str, *, eta: float = 0.0) -> Sampler:
    """The sampler called `name`; `eta` in [0, 1] is DDIM's share of fresh noise. UnknownName, or RequestError for an eta that cannot be."""
    if name not in SAMPLERS:
        raise UnknownName("sampler", name, SAMPLERS)
    if eta == 0:
        return SAMPLERS[name]
    if name != "ddim":
        raise RequestError(f"eta {eta} for sampler {name!r}, which has none", hint='leave eta out, or take the sampler "ddim"')
    if not 0 < eta <= 1:
        raise RequestError(f"eta: {eta}; expected 0 to 1", hint="0 draws no noise, 1 as much as ddpm")
    return partial(ddim, eta=eta)
