"""What every sampler is made of: moments, steps, and the moves from one noise level to the next.

The state is always x = alpha(t) * clean + sigma(t) * noise. A sampler that thinks in the ratio sigma / alpha converts inside.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log, sqrt
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ..specs.process import Process
from .predict import to_noise


@dataclass(frozen=True, slots=True)
class Moment:
    """One move: its number, the time it starts from and the time it leads to. (Of an estimate made within a move both are its own time.)"""

    index: int
    t: float
    next_t: float


class Step(NamedTuple):
    """What a move gave: `noisy` is the state at moment.next_t, `clean` the denoiser's latest estimate behind it."""

    moment: Moment
    noisy: Float[Tensor, "b c h w"]
    clean: Float[Tensor, "b c h w"]


Denoise = Callable[[Tensor, Moment], Tensor]  # noisy at moment.t -> clean, the prediction type already undone
Noise = Callable[[Moment], Tensor]  # standard normal, of the state's shape; a new draw at every call
Steps = Generator[Step, Tensor | None, None]
Sampler = Callable[[Denoise, Tensor, Process, Sequence[float], Noise], Steps]


def to_moments(times: Sequence[float]) -> list[Moment]:
    return [Moment(index, t, next_t) for index, (t, next_t) in enumerate(pairwise(times))]


def advance(x: Tensor, clean: Tensor, process: Process, moment: Moment, fresh: float = 0.0, drawn: Tensor | None = None) -> Tensor:
    """alpha' * clean + sigma' * noise, with the noise that x and clean imply. Finite at t = 1, where alpha may be 0.

    With `fresh`, `drawn` takes the place of a part of that noise, so that its spread stays 1.
    """
    next_alpha, next_sigma = process.alpha(moment.next_t), process.sigma(moment.next_t)
    implied = to_noise(clean, x, process.alpha(moment.t), process.sigma(moment.t))
    x = next_alpha * clean + next_sigma * sqrt(1 - fresh**2) * implied
    return x if drawn is None else x + next_sigma * fresh * drawn


def descend(x: Tensor, clean: Tensor, process: Process, moment: Moment, noise: Noise, eta: float) -> Tensor:
    """`advance` with a share `eta` of the noise that the posterior q(x' | x, clean) draws afresh; none in a move to t = 0."""
    fresh = eta * to_fresh(process, moment)
    return advance(x, clean, process, moment, fresh, noise(moment) if fresh > 0 else None)


def to_fresh(process: Process, moment: Moment) -> float:
    """How much of the noise at the end of a move the posterior draws anew, as a part of its spread; 0 at t = 0, where there is no noise.

    With q = ratio' / ratio the posterior keeps the part q of the noise in x (arXiv 2010.02502, equation 16 with eta 1).
    """
    if process.sigma(moment.next_t) == 0:
        return 0.0
    kept = process.alpha(moment.t) * process.sigma(moment.next_t) / (process.alpha(moment.next_t) * process.sigma(moment.t))
    return sqrt(1 - kept**2)


def follow(x: Tensor, noise: Tensor, process: Process, moment: Moment) -> Tensor:
    """Along a straight line in the ratio: alpha' * (x / alpha + (ratio' - ratio) * noise). Needs alpha above 0."""
    ratio, next_ratio = process.ratio(moment.t), process.ratio(moment.next_t)
    return process.alpha(moment.next_t) * (x / process.alpha(moment.t) + (next_ratio - ratio) * noise)


def to_slope(x: Tensor, clean: Tensor, process: Process, t: float) -> Tensor:
    """d (x / alpha) / d ratio of the probability flow (arXiv 2206.00364, equation 1): the noise that x and clean imply."""
    return to_noise(clean, x, process.alpha(t), process.sigma(t))


def to_width(process: Process, moment: Moment) -> float:
    """log(ratio / ratio'), infinite where the move ends at 0 or starts from noise alone."""
    end = process.ratio(moment.next_t)
    return log(process.ratio(moment.t) / end) if end > 0 else float("inf")
