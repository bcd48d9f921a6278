"""Grids: the times a sampler visits, from pure noise (1) to clean (0).

Every grid has steps + 1 times, strictly descending, the first 1 and the last 0.
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.errors import RequestError, UnknownName
from ..specs.process import Process

Grid = Callable[[Process, int], tuple[float, ...]]

MOST_STEPS = 1000
RHO = 7.0


def uniform(process: Process, steps: int) -> tuple[float, ...]:
    """Even in t from 1 down to the lowest trained time, then 0. A single step starts at 1."""
    return (*(part + process.floor * (1 - part) for part in descend(steps)), 0.0)


def trailing(process: Process, steps: int) -> tuple[float, ...]:
    """Even in t all the way: 1, 1 - 1 / steps, ..., 1 / steps, 0 (arXiv 2305.08891, section 3.3)."""
    return tuple((steps - index) / steps for index in range(steps + 1))


def karras(process: Process, steps: int) -> tuple[float, ...]:
    """Even in ratio ** (1 / 7) from t = 1 down to the lowest trained time, then 0 (arXiv 2206.00364, equation 5)."""
    top, bottom = (process.ratio(t) ** (1 / RHO) for t in (1.0, process.floor))
    inner = (process.t((part * top + (1 - part) * bottom) ** RHO) for part in descend(steps))
    return (*inner, 0.0)


def descend(count: int) -> list[float]:
    """`count` even numbers from 1 down to 0; only 1 where there is one."""
    return [1 - index / max(count - 1, 1) for index in range(count)]


GRIDS: dict[str, Grid] = {"uniform": uniform, "trailing": trailing, "karras": karras}


def build_grid(name: str, process: Process, steps: int) -> tuple[float, ...]:
    """The times of a run with `steps` steps on the grid called `name`. UnknownName, or RequestError for an impossible number of steps."""
    if name not in GRIDS:
        raise UnknownName("grid", name, GRIDS)
    if not 1 <= steps <= MOST_STEPS:
        raise RequestError(f"steps: {steps}; expected 1 to {MOST_STEPS}", hint="20 to 50 steps are usual")
    return GRIDS[name](process, steps)
