"""Samplers that use the estimates of earlier moves: one evaluation a move, but for the first of PLMS.

A state sent by the caller makes the earlier estimates meaningless: they are dropped. So are those made where alpha is 0: noise alone has
no place on the axes that these methods extrapolate along.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import expm1, isinf, prod, sqrt

import torch
from torch import Tensor

from ..specs.process import Process
from .moves import Denoise, Moment, Noise, Step, Steps, advance, descend, follow, to_moments, to_slope, to_width

LMS_ORDER = 4  # beyond it `to_weights` is not exact
ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))  # Adams-Bashforth, latest first


@torch.no_grad()
def dpm_multistep(
    denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise, order: int = 2, eta: float = 0.0
) -> Steps:
    """DPM-Solver++(2M) and (3M) (arXiv 2211.01095, algorithm 2 and appendix B) with `eta` 0, their SDE variants with `eta` 1.

    The clean estimate is extrapolated along log(ratio) from the latest `order` of them. Then comes the first-order move, which draws noise
    with eta 1: SDE-DPM-Solver++ is DDPM with an extrapolated estimate. The first move and the one to t = 0 are of first order.
    Of order 3 it is as published and as everywhere else: the second difference counts half of what third order needs, so that the error
    stays one of second order, but a smaller one.

    k-diffusion reads the noise of its SDE variants off a Brownian tree: its pictures differ from these, their distribution does not.
    """
    cleans: list[Tensor] = []
    widths: list[float] = []  # of the moves, in log(ratio); both latest first. Estimates beyond an infinite one get the weight 0
    for moment in to_moments(times):
        clean = denoise(x, moment)
        cleans, widths = [clean, *cleans][:order], [to_width(process, moment), *widths][:order]
        x = descend(x, extrapolate(cleans, widths, order, eta), process, moment, noise, eta)
        sent = yield Step(moment, x, clean)
        if sent is not None:
            x, cleans, widths = sent, [], []


def extrapolate(cleans: Sequence[Tensor], widths: Sequence[float], order: int, eta: float) -> Tensor:
    """The constant clean estimate that leads to where the polynomial through the latest ones would lead; both arguments latest first.

    Of `order` 2 its value at the middle of the move. Of order 3 its integral over the move with the weight that an exponential integrator
    gives it, exp(-(1 + eta) * log(ratio)): phi_2 and phi_3 of arXiv 2211.01095.
    """
    width, latest = widths[0], cleans[0]
    if len(cleans) == 1 or isinf(width):
        return latest
    if order == 2:
        return latest + (latest - cleans[1]) * (width / (2 * widths[1]))
    span = (1 + eta) * width
    whole = -expm1(-span)
    second = 1 - whole / span
    slope = (latest - cleans[1]) * (width / widths[1])
    if len(cleans) == 2:
        return latest + slope * (second / whole)
    before = (cleans[1] - cleans[2]) * (width / widths[2])
    bend = (slope - before) * (width / (widths[1] + widths[2]))
    slope = slope + bend * (widths[1] / width)
    return latest + slope * (second / whole) - bend * ((second / span - 0.5) / whole)


@torch.no_grad()
def lms(denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise) -> Steps:
    """Linear multistep of fourth order in the ratio: Adams-Bashforth with the weights of the levels there are, to the end.

    The move to t = 0 is extrapolated as well, so the last state is not the last estimate.
    """
    slopes: list[Tensor] = []
    levels: list[float] = []  # both latest first
    for moment in to_moments(times):
        clean = denoise(x, moment)
        if isinf(process.ratio(moment.t)):
            x = advance(x, clean, process, moment)
        else:
            slopes = [to_slope(x, clean, process, moment.t), *slopes][:LMS_ORDER]
            levels = [process.ratio(moment.t), *levels][:LMS_ORDER]
            x = follow(x, to_mean(slopes, to_weights(levels, process.ratio(moment.next_t))), process, moment)
        sent = yield Step(moment, x, clean)
        if sent is not None:
            x, slopes, levels = sent, [], []


def to_weights(levels: Sequence[float], end: float) -> list[float]:
    """The means over levels[0] to end of the polynomials that are 1 at one of the levels and 0 at the others, for 4 levels at most.

    Gauss's rule with two nodes is exact for cubics.
    """
    middle, half = (levels[0] + end) / 2, (end - levels[0]) / 2
    nodes = (middle - half / sqrt(3), middle + half / sqrt(3))
    return [sum(prod((node - other) / (level - other) for other in levels if other != level) for node in nodes) / 2 for level in levels]


@torch.no_grad()
def plms(denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise) -> Steps:
    """Pseudo linear multistep (arXiv 2202.09778, section 3): Adams-Bashforth on the noise, with the weights of even steps on any grid.

    It starts with a step of Heun's, and so makes one evaluation more than there are moves. The move to t = 0 is extrapolated as well, so
    the last state is not the last estimate.
    """
    slopes: list[Tensor] = []  # latest first
    for moment in to_moments(times):
        clean = denoise(x, moment)
        if isinf(process.ratio(moment.t)):
            x = advance(x, clean, process, moment)
        else:
            slopes = [to_slope(x, clean, process, moment.t), *slopes][: len(ADAMS)]
            mean = to_mean(slopes, ADAMS[len(slopes) - 1])
            if len(slopes) == 1 and process.sigma(moment.next_t) > 0:
                ahead = follow(x, mean, process, moment)
                clean = denoise(ahead, Moment(moment.index, moment.next_t, moment.next_t))
                mean = (mean + to_slope(ahead, clean, process, moment.next_t)) / 2
            x = follow(x, mean, process, moment)
        sent = yield Step(moment, x, clean)
        if sent is not None:
            x, slopes = sent, []


def to_mean(slopes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = weights[0] * slopes[0]
    for slope, weight in zip(slopes[1:], weights[1:], strict=True):
        total = total + weight * slope
    return total
