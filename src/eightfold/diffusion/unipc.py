"""UniPC: a multistep predictor, and a corrector that uses the next evaluation, which is made anyway (arXiv 2302.04867)."""

from __future__ import annotations

from collections.abc import Sequence
from math import expm1, isinf, log

import numpy as np
import torch
from torch import Tensor

from ..specs.process import Process
from .moves import Denoise, Moment, Noise, Step, Steps, advance, to_moments


@torch.no_grad()
def unipc(denoise: Denoise, x: Tensor, process: Process, times: Sequence[float], noise: Noise, order: int = 2) -> Steps:
    """UniPC on clean estimates with B(h) = e**h - 1 ("bh2"), of `order` 2 or 3, one evaluation a move.

    The estimate at the state that a move predicted is used to make that move again before the next one starts from there: what is
    yielded is the predicted state. The order falls to 1 with the last moves. Estimates from before a state that the caller sent, and
    those made of noise alone (alpha 0), are not used.
    """
    levels: list[float] = []  # log(ratio)
    cleans: list[Tensor] = []  # both latest first
    made: tuple[Tensor, Moment, int] | None = None  # the state that the last move left from, that move, and how many estimates it used
    moments = to_moments(times)
    for moment in moments:
        clean = denoise(x, moment)
        level, next_ratio = log(process.ratio(moment.t)), process.ratio(moment.next_t)
        if made is not None:
            origin, last, used = made
            x = advance(origin, to_guess([*levels[:used], level], [*cleans[:used], clean], level), process, last)
        levels, cleans = [level, *levels][:order], [clean, *cleans][:order]
        used = min(len(cleans), len(moments) - moment.index)
        made = x, moment, used
        plain = used == 1 or next_ratio == 0
        x = advance(x, clean if plain else to_guess(levels[:used], cleans[:used], log(next_ratio)), process, moment)
        sent = yield Step(moment, x, clean)
        if sent is not None or isinf(level):
            levels, cleans, made = [], [], None
        x = x if sent is None else sent


def to_guess(levels: Sequence[float], cleans: Sequence[Tensor], end: float) -> Tensor:
    """The constant clean estimate for a move from levels[0] to `end`, in log(ratio), by the estimates at all `levels`."""
    width = levels[0] - end
    nodes = [(levels[0] - level) / width for level in levels[1:]]
    guess = cleans[0]
    for node, weight, clean in zip(nodes, to_weights(nodes, width), cleans[1:], strict=True):
        guess = guess + (clean - cleans[0]) * (weight / node)
    return guess


def to_weights(nodes: Sequence[float], width: float) -> list[float]:
    """The coefficients a of theorem 3.1 for nodes r and a move of `width` h: sum over k of a_k * r_k**(i - 1) is what integrates
    (log ratio)**i exactly, i = 1, 2, ...; for one node one half, as the authors do.
    """
    if len(nodes) == 1:
        return [0.5]
    factorial, part, right = 1, expm1(-width) / -width - 1, list[float]()
    for index in range(1, len(nodes) + 1):
        right.append(part * factorial / expm1(-width))
        factorial *= index + 1
        part = part / -width - 1 / factorial
    powers = [[node**index for node in nodes] for index in range(len(nodes))]
    return np.linalg.solve(np.array(powers), np.array(right)).tolist()
