"""Progress as events: long work yields them, and only a front end draws."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`number` of `total` units of `task` are done; `figures` are what is worth showing beside it (a loss, a rate)."""

    task: str
    number: int
    total: int
    figures: dict[str, float] = field(default_factory=dict)
