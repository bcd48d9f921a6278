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
    """What the denoiser is told: the prompt, and for guidance what to lead away from. A refiner reads the same for itself."""

    positive: Condition
    negative: Condition | None
    refiner: Tokens | None = None


class Leg(NamedTuple):
    """A part of a run: the size in pixels, and the times that are visited.

    It is a whole pass, from noise or from a picture, or a part of one: then `before` and `after` count the moves of the pass that are made
    before it and after it. One that `refines` is the refiner's.
    """

    width: int
    height: int
    times: tuple[float, ...]
    before: int = 0
    after: int = 0
    refines: bool = False

    @property
    def moves(self) -> int:
        return len(self.times) - 1

    @property
    def whole(self) -> int:
        """Moves of the pass that it belongs to."""
        return self.before + self.moves + self.after

    @property
    def goes_on(self) -> bool:
        """Whether it begins with the state that the leg before has left, as noisy as it is."""
        return self.before > 0


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

    def find_model(self, leg: Leg) -> Model:
        """The one that draws in this leg."""
        return self.model.refiner if leg.refines and self.model.refiner is not None else self.model

    def find_tokens(self, leg: Leg) -> Tokens:
        """What that is told."""
        return self.tokens.refiner if leg.refines and self.tokens.refiner is not None else self.tokens
