"""A mark: a tensor by which a file shows what it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A tensor that must be there, or with `absent` must not; None in `shape` stands for any size, no shape for any shape.

    An absent mark with a shape only forbids a tensor of that shape.
    """

    key: str
    shape: tuple[int | None, ...] = ()
    absent: bool = False
