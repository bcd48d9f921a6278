"""Progress as events: long work yields them, and only a front end draws."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`number` of `total` units of `task` are done, a part of the one at work included; `figures` are worth showing beside it (a rate)."""

    task: str
    number: float
    total: int
    figures: dict[str, float] = field(default_factory=dict)
