"""How the tensors of one published layout are called and cut in another, as rows of plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Change = Literal["", "squeeze", "swap", "turn"]


@dataclass(frozen=True)
class Row:
    """`before` is a pattern of names in the other layout, `after` the same in the layout of our networks (that of diffusers).

    A pattern that ends in a dot claims every name that begins so, and the rest of the name is carried over; another claims one whole name.
    `{l}` stands for a number, the same on both sides. One side may reckon with it: `{3-l}`, or `{3l+r+1}`, where a bound on the other side
    (`{r<3}`) says how far `r` counts. Rows `inside` go on behind the two patterns, and what none of them claims is not claimed.
    Several patterns in `after`: the tensor is cut along its first axis, in the proportions `shares` (equal ones if empty).
    "squeeze": a 1x1 convolution before, a linear map after. "swap": the first and second half of the first axis change places.
    "turn": rows and columns change places.
    """

    before: str
    after: str | tuple[str, ...]
    inside: tuple[Row, ...] = ()
    shares: tuple[int, ...] = ()
    change: Change = ""


@dataclass(frozen=True)
class Dropped:
    """A tensor of the other layout that has no counterpart, and why.

    `value` is what it is filled with on the way back, in the shape of the tensor `like` (a name of the other layout). Without a value,
    because nobody can know it, the way back needs the tensor itself, or goes without it where it is not `needed`.
    """

    before: str
    reason: str
    value: float | None = None
    like: str = ""
    needed: bool = True


@dataclass(frozen=True, kw_only=True)
class Keymap:
    """Rows of which at most one claims a name; names that none claims are the same in both layouts.

    `spellings` are other ways to write the layout before; each leads to that layout and is tried on the way in.
    """

    name: str
    rows: tuple[Row, ...]
    dropped: tuple[Dropped, ...] = ()
    spellings: tuple[Keymap, ...] = ()
