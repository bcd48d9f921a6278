"""How clean latents become noise: x = alpha(t) * clean + sigma(t) * noise, t in [0, 1], 0 is clean. No torch here."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from math import exp, log, sqrt
from typing import Protocol, runtime_checkable

from ..core.errors import ConfigError


@runtime_checkable
class Process(Protocol):
    """A path from data (t = 0) to noise (t = 1).

    `ratio` is sigma / alpha: the noise level once the signal is scaled back to 1. It rises with t, from 0 at t = 0.
    """

    @property
    def floor(self) -> float:
        """The smallest t above 0 that a network was trained on."""
        ...

    def alpha(self, t: float) -> float: ...
    def sigma(self, t: float) -> float: ...
    def ratio(self, t: float) -> float: ...

    def t(self, ratio: float) -> float:
        """The inverse of `ratio`."""
        ...

    def timestep(self, t: float) -> float:
        """What the network is told in place of t."""
        ...


@dataclass(frozen=True, kw_only=True)
class ScaledLinear:
    """The discrete process of Stable Diffusion: betas are squares of a linear ramp of square roots (DDPM, arXiv 2006.11239).

    It preserves variance: alpha**2 + sigma**2 = 1. Entry i of the table sits at t = (i + 1) / steps and is met exactly there.
    Between entries log(sigma / alpha) is linear in t; below the first entry sigma / alpha itself falls linearly to 0 at t = 0.
    A t outside [0, 1] counts as the nearer end.
    """

    first: float = 0.00085
    last: float = 0.012
    steps: int = 1000

    def __post_init__(self) -> None:
        if not (0 < self.first <= self.last < 1 and self.steps >= 2):
            raise ConfigError(
                f"process: first={self.first}, last={self.last}, steps={self.steps}; expected 0 < first <= last < 1 and steps of 2 or more",
                hint="Stable Diffusion's process has first 0.00085, last 0.012, steps 1000",
            )

    @cached_property
    def table(self) -> tuple[float, ...]:
        """sigma / alpha at t = 0, 1 / steps, ..., 1."""
        start, end = sqrt(self.first), sqrt(self.last)
        ratios = [0.0]
        kept = 1.0  # alpha ** 2
        for i in range(self.steps):
            kept *= 1 - (start + i / (self.steps - 1) * (end - start)) ** 2
            ratios.append(sqrt((1 - kept) / kept))
        return tuple(ratios)

    @property
    def floor(self) -> float:
        return 1 / self.steps

    def alpha(self, t: float) -> float:
        return 1 / sqrt(1 + self.ratio(t) ** 2)

    def sigma(self, t: float) -> float:
        ratio = self.ratio(t)
        return ratio / sqrt(1 + ratio**2)

    def ratio(self, t: float) -> float:
        at = self.position(t)
        low = int(at)
        part = at - low
        if part == 0:
            return self.table[low]
        below, above = self.table[low], self.table[low + 1]
        return part * above if low == 0 else exp(log(below) + part * (log(above) - log(below)))

    def t(self, ratio: float) -> float:
        if ratio >= self.table[-1]:
            return 1.0
        if ratio <= 0:
            return 0.0
        high = bisect_left(self.table, ratio)
        below, above = self.table[high - 1], self.table[high]
        part = ratio / above if high == 1 else log(ratio / below) / log(above / below)
        return snap(high - 1 + part) / self.steps

    def timestep(self, t: float) -> float:
        """The index of the table entry at t, counted from 0; between entries a fraction, below the first entry 0."""
        return max(self.position(t) - 1, 0.0)

    def position(self, t: float) -> float:
        return min(max(snap(t * self.steps), 0.0), float(self.steps))


def snap(position: float) -> float:
    """`position`, or the whole number it misses only by rounding: so (i + 1) / steps * steps finds entry i."""
    whole = float(round(position))
    return whole if abs(position - whole) < 1e-9 else position
