"""A tensor by its name in our layout, in a file of whichever layout. No torch here.

Only the names that are asked for are translated, so that looking for a few marks in a file of thousands of tensors takes no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple, Protocol

from ..core.errors import WeightMismatch
from ..specs.keymap import Keymap
from ..specs.mark import Mark
from .identify import fits_shape
from .rename import EARLY_ATTENTION, SHAPES, Shape, cut_pieces
from .rules import Claim, Rule, build_finder, compile_rules


class Marked(Protocol):
    @property
    def marks(self) -> tuple[Mark, ...]: ...
    @property
    def keymap(self) -> Keymap | None: ...


class Found(NamedTuple):
    """A tensor's name in the file, its shape there as our layout would have it, and whether the file's layout is the other one."""

    name: str
    shape: Shape
    original: bool


@cache
def build_back_finder(keymap: Keymap) -> Callable[[str], Claim | None]:
    return build_finder(compile_rules(keymap), back=True)


class Place(NamedTuple):
    """A name in the other layout, and which part of it by which rule the tensor is; no rule: the whole, as it is."""

    name: str
    rule: Rule | None
    part: int


def translate(key: str, keymap: Keymap) -> list[Place]:
    """Where a tensor of our layout may stand in a file of the other layout: in its first spelling, then in the others."""
    claim = build_back_finder(keymap)(key)
    place = Place(key, None, 0) if claim is None else Place(claim.heads[0] + claim.rest, claim.rule, claim.part)
    places = [place]
    for spelling in keymap.spellings:
        claim = build_back_finder(spelling)(place.name)
        if claim is not None and len(claim.rule.after) == 1 and not claim.rule.change:
            places.append(place._replace(name=claim.heads[0] + claim.rest))
    return places


@cache
def list_places(key: str, keymap: Keymap | None) -> tuple[Place, ...]:
    early = [key.replace(f".attentions.0.{now}.", f".attentions.0.{was}.") for was, now in EARLY_ATTENTION]
    own = [Place(name, None, 0) for name in dict.fromkeys((key, *early))]
    return (*own, *(translate(key, keymap) if keymap is not None else ()))


def find_tensor(shapes: Mapping[str, Shape], key: str, keymap: Keymap | None) -> Found | None:
    """The tensor that our layout calls `key`; None where the file has none, or one that cannot be cut as it should."""
    for name, rule, part in list_places(key, keymap):
        shape = shapes.get(name)
        if shape is None:
            continue
        if rule is None:
            return Found(name, shape, name != key)
        try:
            return Found(name, cut_pieces(name, shape, rule, SHAPES)[part], True)
        except WeightMismatch:
            continue
    return None


def find_marks(shapes: Mapping[str, Shape], kind: Marked) -> tuple[Found, ...] | None:
    """The tensors behind a kind's marks; None where one is missing, or there although it must not be."""
    found: list[Found] = []
    for mark in kind.marks:
        one = find_tensor(shapes, mark.key, kind.keymap)
        if not fits_shape(mark, one.shape if one else None):
            return None
        if one is not None and not mark.absent:
            found.append(one)
    return tuple(found)
