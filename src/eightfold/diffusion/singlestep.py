"""Samplers that remember nothing from one move to the next.

Where a move starts from noise alone (alpha 0: the ratio is infinite) or ends at t = 0, those of second order are of first order.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf, sqrt
from typing import Literal

import torch
from torch import Tensor

from ..specs.process import Process
from .moves import Denoise, Moment, Noise, Step, Steps, advance, descend, follow, to_fresh, to_moments, to_slope
from .predict import add_noise


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
    """
    for moment in to_moments(times):
        clean = denoise(x, moment)
        x = descend(x, clean, process, moment, noise, eta)
        sent = yield Step(moment, x, clean)
        x = x if sent is None else sent


@torch.no_grad()
def lcm(denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise) -> Steps:
    """Multistep consistency sampling (arXiv 2303.01469, algorithm 1; arXiv 2310.04378): the clean estimate, noised anew to the next level.

    The estimate of a consistency model is `bound` to x at the end of time.
    """
    for moment in to_moments(times):
        clean = bound(denoise(x, moment), x, process, moment.t)
        level = process.sigma(moment.next_t)
        x = clean if level == 0 else add_noise(clean, noise(moment), process.alpha(moment.next_t), level)
        sent = yield Step(moment, x, clean)
        x = x if sent is None else sent


def bound(clean: Tensor, x: Tensor, process: Process, t: float) -> Tensor:
    """c_skip * x + c_out * clean, the boundary condition of latent consistency models (arXiv 2310.04378, section 4.1).

    c_skip = d**2 / (s**2 + d**2) and c_out = s / sqrt(s**2 + d**2), with d = 0.5 and s ten times the trained times below t, counted from 0:
    the first of them is x itself, and from the 17th on it changes less than 1e-5.
    """
    scaled = 10 * max(t / process.floor - 1, 0.0)
    return 0.25 / (scaled**2 + 0.25) * x + scaled / sqrt(scaled**2 + 0.25) * clean


@torch.no_grad()
def heun(denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise) -> Steps:
    """Second order, two evaluations a move: the trapezoid rule in the ratio (arXiv 2206.00364, algorithm 1)."""
    for moment in to_moments(times):
        clean = denoise(x, moment)
        ahead = advance(x, clean, process, moment)
        if is_plain(process, moment):
            x = ahead
        else:
            slope = to_slope(x, clean, process, moment.t)
            clean = denoise(ahead, Moment(moment.index, moment.next_t, moment.next_t))
            slope = (slope + to_slope(ahead, clean, process, moment.next_t)) / 2
            x = follow(x, slope, process, moment)
        sent = yield Step(moment, x, clean)
        x = x if sent is None else sent


@torch.no_grad()
def dpm_2(denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise) -> Steps:
    """Second order, two evaluations a move: the midpoint rule, the middle taken in log(ratio) (DPM-Solver-2, arXiv 2206.00927)."""
    for moment in to_moments(times):
        clean = denoise(x, moment)
        if is_plain(process, moment):
            x = advance(x, clean, process, moment)
        else:
            middle = to_middle(process, moment)
            ahead = advance(x, clean, process, Moment(moment.index, moment.t, middle))
            clean = denoise(ahead, Moment(moment.index, middle, middle))
            x = follow(x, to_slope(ahead, clean, process, middle), process, moment)
        sent = yield Step(moment, x, clean)
        x = x if sent is None else sent


@torch.no_grad()
def second_ancestral(
    denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise, predicts: Literal["noise", "clean"] = "noise"
) -> Steps:
    """The midpoint rule to a level below the next one, then noise up to it: DPM2 ancestral; with `predicts` "clean" DPM++ 2S ancestral.

    The level below is ratio'**2 / ratio, so the middle in log(ratio) is ratio' itself. What is held over the move is the noise found there
    (DPM-Solver-2, arXiv 2206.00927) or the clean estimate (DPM-Solver++(2S), arXiv 2211.01095).
    """
    for moment in to_moments(times):
        clean = denoise(x, moment)
        if is_plain(process, moment):
            x = descend(x, clean, process, moment, noise, eta=1)
        else:
            ahead = advance(x, clean, process, moment)
            clean = denoise(ahead, Moment(moment.index, moment.next_t, moment.next_t))
            if predicts == "clean":
                x = descend(x, clean, process, moment, noise, eta=1)
            else:
                fresh, level = to_fresh(process, moment), process.sigma(moment.next_t)
                slope = to_slope(ahead, clean, process, moment.next_t)
                x = follow(x, slope, process, moment) + level * (sqrt(1 - fresh**2) - 1) * slope + level * fresh * noise(moment)
        sent = yield Step(moment, x, clean)
        x = x if sent is None else sent


@torch.no_grad()
def dpm_sde(denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise) -> Steps:
    """DPM-Solver++ (stochastic), two evaluations a move: the posterior's move with the clean estimate found at its middle in log(ratio).

    Two draws a move, one for each half. The move to the middle uses the first, the whole move both, weighted as the parts of a
    Brownian motion in the ratio. k-diffusion reads such a motion off a tree of its own: its pictures differ, their distribution does not.
    """
    for moment in to_moments(times):
        clean = denoise(x, moment)
        if is_plain(process, moment):
            x = descend(x, clean, process, moment, noise, eta=1)
        else:
            middle = to_middle(process, moment)
            first, second = Moment(moment.index, moment.t, middle), Moment(moment.index, middle, moment.next_t)
            drawn = noise(first)
            ahead = advance(x, clean, process, first, to_fresh(process, first), drawn)
            clean = denoise(ahead, Moment(moment.index, middle, middle))
            top, halfway, low = (process.ratio(t) for t in (moment.t, middle, moment.next_t))
            whole = sqrt((top - halfway) / (top - low)) * drawn + sqrt((halfway - low) / (top - low)) * noise(second)
            x = advance(x, clean, process, moment, to_fresh(process, moment), whole)
        sent = yield Step(moment, x, clean)
        x = x if sent is None else sent


def is_plain(process: Process, moment: Moment) -> bool:
    """Whether a move can be of first order only: it starts from noise alone, or ends where there is none."""
    return process.sigma(moment.next_t) == 0 or isinf(process.ratio(moment.t))


def to_middle(process: Process, moment: Moment) -> float:
    """The time halfway in log(ratio)."""
    return process.t(sqrt(process.ratio(moment.t) * process.ratio(moment.next_t)))
