"""A plan in words and figures: what will be kept where, how much memory and time it takes, and why."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ..core.memory import to_amount
from ..nn.convolving import Kernels
from .cost import count_operations
from .plan import Plan, Planner
from .schedule import WHOLE, Frame, Place

Task = Literal["encode", "decode"]
WORTH = 60e9  # multiplications and additions of a run below which loading the fast kernels takes longer than they save
PLAIN = 1.4  # times the memory of a plan that the plain loop takes
SLOW = 5.0  # times the fastest plan, from which on somebody should agree first
PLACES = {Place.MEMORY: "memory", Place.FILE: "a temporary file", Place.PASSING: "nowhere: made again for its statistics"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """A plan, with the fastest one that any amount of memory would allow, and why the kernels are those that they are.

    `budget` is the bound on the process's resident memory that the plan keeps, in bytes; None where nobody says what is free. `reserve` is
    the part of the plan's base that is set aside for what cannot be counted; the plain loop has little of that.
    """

    task: Task
    frame: Frame
    plan: Plan
    planner: Planner
    fastest: Plan
    budget: int | None
    kernels: Kernels
    reason: str
    device: str = "cpu"
    reserve: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether the stages are run one after the other: for little work that fits anyhow the passes of a plan take longer."""
        fits = self.budget is None or self.plan.base + PLAIN * self.plan.rise_bytes <= self.budget
        return fits and self.device == "cpu" and self.plan is self.fastest and count_operations(self.frame) < WORTH

    @property
    def peak_bytes(self) -> int:
        """The largest resident memory of this process that the run is expected to lead to."""
        return self.plan.base - (self.reserve if self.is_plain else 0) + self.rise_bytes

    @property
    def rise_bytes(self) -> int:
        return int((PLAIN if self.is_plain else 1) * self.plan.rise_bytes)

    @property
    def seconds(self) -> float:
        """About; for comparing."""
        return self.plan.total_seconds

    @property
    def slowdown(self) -> float:
        """How many times longer it takes than with all the memory it would like."""
        return self.plan.total_seconds / self.fastest.total_seconds

    @cached_property
    def comfortable_bytes(self) -> int:
        """The memory with which it would not be called slow."""
        low, high = self.peak_bytes, self.fastest.peak_bytes
        while high - low > high // 50:
            middle = (low + high) // 2
            if self.planner.plan(middle).total_seconds > SLOW * self.fastest.total_seconds:
                low = middle
            else:
                high = middle
        return high

    @property
    def strip(self) -> int | None:
        """Rows of a strip, of what it makes; None where feature maps are made whole."""
        return None if self.plan.choice.strip >= WHOLE else self.plan.choice.strip

    def to_record(self) -> dict[str, object]:
        """For the metadata of what is computed by it."""
        if self.is_plain:
            return {"kernels": "torch, stage by stage"}
        places = {place.value: sum(one is place for one in self.plan.places.values()) for place in Place}
        why = {"kernels_reason": self.reason} if self.reason else {}
        return {"kernels": self.kernels.name, **why, "strip": self.strip, "feature_maps": places}

    def list_levels(self) -> list[dict[str, Any]]:
        """Passes whose results have one size and one place, taken together, in order of the first."""
        levels: dict[tuple[int, int, int, Place], dict[str, Any]] = {}
        for one, size, seconds in zip(self.plan.passes, self.plan.bytes, self.plan.seconds, strict=True):
            shape, place = self.frame.sizes[one.target], self.plan.places[one.target]
            level = levels.setdefault(
                (shape.height, shape.width, shape.channels, place),
                {"height": shape.height, "width": shape.width, "channels": shape.channels, "kept_in": PLACES[place], "passes": 0}
                | {"rise_bytes": 0, "seconds": 0.0},
            )
            level["passes"] += 1
            level["rise_bytes"] = max(level["rise_bytes"], size)
            level["seconds"] += seconds
        return list(levels.values())

    def to_json(self) -> dict[str, Any]:
        image = self.frame.sizes[0 if self.task == "encode" else -1]
        facts = {"task": self.task, "width": image.width, "height": image.height, **self.to_record(), "reason": self.reason}
        facts |= {"device": self.device, "dtype": str(image.dtype).removeprefix("torch."), "budget_bytes": self.budget}
        facts |= {"peak_bytes": self.peak_bytes, "rise_bytes": self.rise_bytes, "file_bytes": self.plan.spilled}
        facts |= {"seconds": round(self.seconds, 2), "fastest_seconds": round(self.fastest.total_seconds, 2)}
        return facts | {"fastest_bytes": self.fastest.peak_bytes, "levels": [] if self.is_plain else self.list_levels()}

    def to_lines(self) -> list[str]:
        """For a terminal."""
        facts = self.to_json()
        allowed = "" if self.budget is None else f"; {to_amount(self.budget)} allowed"
        fastest = f"; {self.fastest.total_seconds:.3g} s at best, in {to_amount(self.fastest.peak_bytes)}" if self.slowdown > 1 else ""
        lines = [
            f"{self.task} {facts['width']}x{facts['height']}, {facts['dtype']} on {self.device}",
            f"  kernels  {facts['kernels']}{f' ({self.reason})' if self.reason else ''}",
            f"  memory   {to_amount(self.peak_bytes)} at most, {to_amount(self.plan.base)} of it now{allowed}",
            f"  time     about {self.seconds:.3g} s{fastest}",
        ]
        if self.is_plain:
            return lines
        lines.append(f"  strips   {f'{self.strip} rows' if self.strip else 'none: feature maps are made whole'}")
        if self.plan.spilled:
            lines.append(f"  file     {to_amount(self.plan.spilled)} for feature maps that do not fit")
        lines.append(f"  {'feature maps':>18}  passes  {'memory':>8}  {'seconds':>7}  kept in")
        for level in self.list_levels():
            shape = f"{level['width']}x{level['height']}x{level['channels']}"
            figures = f"{level['passes']:>6}  {to_amount(level['rise_bytes']):>8}  {level['seconds']:>7.2f}"
            lines.append(f"  {shape:>18}  {figures}  {level['kept_in']}")
        return lines
