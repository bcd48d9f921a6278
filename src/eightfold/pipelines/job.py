"""A request with everything that its pictures share, and the parts that a run has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..text.condition import Condition
from .bundle import Model
from .enlarge import Enlarger
from .guides import Loaded
from .request import Plan
from .start import Start


@dataclass(frozen=True)
class Tokens:
    """What the denoiser is told: the prompt, and for guidance what to lead away from."""

    positive: Condition
    negative: Condition | None


class Leg(NamedTuple):
    """A part of a run: the size in pixels, and the times that are visited."""

    width: int
    height: int
    times: tuple[float, ...]

    @property
    def moves(self) -> int:
        return len(self.times) - 1


@dataclass(frozen=True, eq=False)
class Job:
    """A request with everything that its pictures share."""

    model: Model
    plan: Plan
    start: Start | None
    tokens: Tokens
    legs: tuple[Leg, ...]
    guides: tuple[Loaded, ...] = ()
    enlarger: Enlarger | None = None

    @property
    def moves(self) -> int:
        """Steps of one picture."""
        return sum(leg.moves for leg in self.legs)
