"""Grids: the times a sampler visits, from noise to clean (0).

Every grid has steps + 1 times, strictly descending, the last 0. The first is 1, but for `leading`, which starts lower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import exp, isinf, log

from ..core.errors import RequestError, UnknownName
from ..specs.process import Process
from .betaquantile import find_quantile

Grid = Callable[[Process, int], tuple[float, ...]]

MOST_STEPS = 1000
RHO = 7.0
BETA = 0.6
LCM_TIMES = 50


def uniform(process: Process, steps: int) -> tuple[float, ...]:
    """Even in t from 1 down to the lowest trained time, then 0. A single step starts at 1."""
    return (*(part + process.floor * (1 - part) for part in descend(steps)), 0.0)


def leading(process: Process, steps: int) -> tuple[float, ...]:
    """Whole strides of trained times up from the second lowest, as in Stable Diffusion's own samplers; the highest are left out.

    RequestError for more steps than there are trained times.
    """
    count = round(1 / process.floor)
    if steps > count:
        raise RequestError(f"{steps} steps on the grid leading, of a model with {count} trained times", hint='take the grid "trailing"')
    stride = count // steps
    first = min(2, count - stride * (steps - 1))
    return (*((first + stride * index) / count for index in reversed(range(steps))), 0.0)


def trailing(process: Process, steps: int) -> tuple[float, ...]:
    """Even in t all the way: 1, 1 - 1 / steps, ..., 1 / steps, 0 (arXiv 2305.08891, section 3.3)."""
    return tuple((steps - index) / steps for index in range(steps + 1))


def karras(process: Process, steps: int) -> tuple[float, ...]:
    """Even in ratio ** (1 / 7) from t = 1 down to the lowest trained time, then 0 (arXiv 2206.00364, equation 5)."""
    top, bottom = (ratio ** (1 / RHO) for ratio in to_ends(process, "karras"))
    return to_times(process, ((part * top + (1 - part) * bottom) ** RHO for part in descend(steps)))


def exponential(process: Process, steps: int) -> tuple[float, ...]:
    """Even in log(ratio) from t = 1 down to the lowest trained time, then 0."""
    top, bottom = to_ends(process, "exponential")
    return to_times(process, (top**part * bottom ** (1 - part) for part in descend(steps)))


def beta(process: Process, steps: int) -> tuple[float, ...]:
    """Even quantiles of the distribution Beta(0.6, 0.6) over the ratios (arXiv 2407.12173): closer together at both ends.

    This is what diffusers and A1111 mean by it. ComfyUI takes the quantiles over the times.
    """
    top, bottom = to_ends(process, "beta")
    return to_times(process, (bottom + find_quantile(part, BETA) * (top - bottom) for part in descend(steps)))


def lcm(process: Process, steps: int) -> tuple[float, ...]:
    """Of the 50 even times that latent consistency models are distilled at (arXiv 2310.04378, section 4.3), `steps` from the top on.

    RequestError for more steps than that.
    """
    if steps > LCM_TIMES:
        what = f"{steps} steps on the grid lcm, which has {LCM_TIMES} times"
        raise RequestError(what, hint='latent consistency models draw in 1 to 8 steps; other models on the grid "trailing"')
    return (*((LCM_TIMES - LCM_TIMES * index // steps) / LCM_TIMES for index in range(steps)), 0.0)


def ays(process: Process, steps: int) -> tuple[float, ...]:
    """Align Your Steps (arXiv 2404.14507): the process's published schedule, for another number of steps interpolated evenly in log(ratio).

    RequestError where none was published.
    """
    if not process.knots:
        raise RequestError("no schedule was published for the grid ays and this model", hint='"karras" and "trailing" fit every model')
    levels = [log(process.ratio(t)) for t in process.knots]
    ratios = list[float]()
    for index in range(steps):
        low, part = divmod(index * (len(levels) - 1) / steps, 1)
        below, above = levels[int(low)], levels[int(low) + 1]
        ratios.append(exp(below + part * (above - below)))
    return to_times(process, ratios)


def descend(count: int) -> list[float]:
    """`count` even numbers from 1 down to 0; only 1 where there is one."""
    return [1 - index / max(count - 1, 1) for index in range(count)]


def to_ends(process: Process, name: str) -> tuple[float, float]:
    """The ratios at t = 1 and at the lowest trained time. RequestError where the first is infinite."""
    if isinf(process.ratio(1.0)):
        what = f"the grid {name} starts from a finite noise level, and this model from noise alone"
        raise RequestError(what, hint='take the grid "trailing" or "uniform"')
    return process.ratio(1.0), process.ratio(process.floor)


def to_times(process: Process, ratios: Iterable[float]) -> tuple[float, ...]:
    return (*(process.t(ratio) for ratio in ratios), 0.0)


GRIDS: dict[str, Grid] = {
    "uniform": uniform,
    "leading": leading,
    "trailing": trailing,
    "karras": karras,
    "exponential": exponential,
    "beta": beta,
    "ays": ays,
    "lcm": lcm,
}


def build_grid(name: str, process: Process, steps: int) -> tuple[float, ...]:
    """The times of a run with `steps` steps on the grid called `name`.

    UnknownName, or RequestError for an impossible number of steps or a grid that this process cannot have.
    """
    if name not in GRIDS:
        raise UnknownName("grid", name, GRIDS)
    if not 1 <= steps <= MOST_STEPS:
        raise RequestError(f"steps: {steps}; expected 1 to {MOST_STEPS}", hint="20 to 50 steps are usual")
    return GRIDS[name](process, steps)
