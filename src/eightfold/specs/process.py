"""How clean latents become noise: x = alpha(t) * clean + sigma(t) * noise, t in [0, 1], 0 is clean. No torch here."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import exp, inf, isinf, log, sqrt
from typing import Protocol, runtime_checkable

from ..core.errors import ConfigError


@runtime_checkable
class Process(Protocol):
    """A path from data (t = 0) to noise (t = 1).

    `ratio` is sigma / alpha: the noise level once the signal is scaled back to 1. It rises with t, from 0 at t = 0, and is infinite at
    t = 1 where noise alone is left there.
    """

    @property
    def floor(self) -> float:
        """The smallest t above 0 that a network was trained on."""
        ...

    @property
    def knots(self) -> tuple[float, ...]:
        """The times of the schedule that was published for these models, from 1 down to the one before 0; none if empty."""
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

    With `zero_terminal` the alphas of the table are shifted and scaled so that the first stays and the last is 0 (arXiv 2305.08891,
    algorithm 1); alpha / sigma falls linearly to it from the entry before. For `knots` see Process.
    """

    first: float = 0.00085
    last: float = 0.012
    steps: int = 1000
    zero_terminal: bool = False
    knots: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (0 < self.first <= self.last < 1 and self.steps >= 2):
            raise ConfigError(
                f"process: first={self.first}, last={self.last}, steps={self.steps}; expected 0 < first <= last < 1 and steps of 2 or more",
                hint="Stable Diffusion's process has first 0.00085, last 0.012, steps 1000",
            )
        if self.knots and not (self.knots[0] == 1 and all(t > after > 0 for t, after in pairwise(self.knots)) and len(self.knots) > 1):
            raise ConfigError(f"knots: {self.knots}; expected times that fall from 1, all above 0", hint="leave them out if there are none")

    @cached_property
    def table(self) -> tuple[float, ...]:
        """sigma / alpha at t = 0, 1 / steps, ..., 1."""
        start, end = sqrt(self.first), sqrt(self.last)
        squares = [1.0]  # alpha ** 2
        for i in range(self.steps):
            squares.append(squares[-1] * (1 - (start + i / (self.steps - 1) * (end - start)) ** 2))
        if self.zero_terminal:
            top, bottom = sqrt(squares[1]), sqrt(squares[-1])
            squares[1:] = [((sqrt(square) - bottom) * top / (top - bottom)) ** 2 for square in squares[1:]]
        return tuple(sqrt((1 - square) / square) if square > 0 else inf for square in squares)

    @property
    def floor(self) -> float:
        return 1 / self.steps

    def alpha(self, t: float) -> float:
        return to_alpha(self.ratio(t))

    def sigma(self, t: float) -> float:
        return to_sigma(self.ratio(t))

    def ratio(self, t: float) -> float:
        at = self.position(t)
        low = int(at)
        part = at - low
        if part == 0:
            return self.table[low]
        below, above = self.table[low], self.table[low + 1]
        if isinf(above):
            return below / (1 - part)
        return part * above if low == 0 else exp(log(below) + part * (log(above) - log(below)))

    def t(self, ratio: float) -> float:
        if ratio >= self.table[-1]:
            return 1.0
        if ratio <= 0:
            return 0.0
        high = bisect_left(self.table, ratio)
        below, above = self.table[high - 1], self.table[high]
        if high == 1:
            part = ratio / above
        elif isinf(above):
            part = 1 - below / ratio
        else:
            part = log(ratio / below) / log(above / below)
        return snap(high - 1 + part) / self.steps

    def timestep(self, t: float) -> float:
        """The index of the table entry at t, counted from 0; between entries a fraction, below the first entry 0."""
        return max(self.position(t) - 1, 0.0)

    def position(self, t: float) -> float:
        return min(max(snap(t * self.steps), 0.0), float(self.steps))


@dataclass(frozen=True, kw_only=True)
class Edm:
    """The process of EDM (arXiv 2206.00364, section 5), written so that it preserves variance: alpha**2 + sigma**2 = 1.

    Its noise levels, `lowest` to `highest`, are those of latents with the standard deviation `spread`; x holds the latents divided by
    it. So alpha is its c_in * spread, "velocity" its preconditioned output with the sign of arXiv 2202.00512, and the network is told
    log(level) / 4. From t = 0.001 to 1 the level rises evenly in the logarithm, below linearly from 0. A t outside [0, 1] counts as the
    nearer end.
    """

    lowest: float = 0.002
    highest: float = 80.0
    spread: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.lowest < self.highest < inf and 0 < self.spread < inf):
            what = f"process: lowest={self.lowest}, highest={self.highest}, spread={self.spread}"
            hint = "EDM has levels from 0.002 to 80 and a spread of 0.5"
            raise ConfigError(f"{what}; expected 0 < lowest < highest and a spread above 0", hint=hint)

    @property
    def floor(self) -> float:
        return 0.001

    @property
    def knots(self) -> tuple[float, ...]:
        return ()

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest trained noise level."""
        return self.lowest, self.highest

    def alpha(self, t: float) -> float:
        return to_alpha(self.ratio(t))

    def sigma(self, t: float) -> float:
        return to_sigma(self.ratio(t))

    def ratio(self, t: float) -> float:
        return self.level(t) / self.spread

    def level(self, t: float) -> float:
        """The noise level as EDM counts it."""
        if t >= 1:
            return self.highest
        if t <= self.floor:
            return self.lowest * max(t, 0.0) / self.floor
        part = (t - self.floor) / (1 - self.floor)
        return self.lowest * (self.highest / self.lowest) ** part

    def t(self, ratio: float) -> float:
        level = ratio * self.spread
        if level <= self.lowest:
            return self.floor * max(level, 0.0) / self.lowest
        part = log(level / self.lowest) / log(self.highest / self.lowest)
        return min(snap((self.floor + part * (1 - self.floor)) * 1000) / 1000, 1.0)

    def timestep(self, t: float) -> float:
        """log(level) / 4; below the lowest trained level that of the lowest."""
        return log(self.level(max(t, self.floor))) / 4


def to_alpha(ratio: float) -> float:
    return 1 / sqrt(1 + ratio**2)


def to_sigma(ratio: float) -> float:
    return 1.0 if isinf(ratio) else ratio / sqrt(1 + ratio**2)


def snap(position: float) -> float:
    """`position`, or the whole number it misses only by rounding: so (i + 1) / steps * steps finds entry i."""
    whole = float(round(position))
    return whole if abs(position - whole) < 1e-9 else position
