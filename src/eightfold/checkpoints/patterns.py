"""Patterns of tensor names: texts with numbers between them that may be reckoned with.

`down.{l}.block.{r}.` has the texts `down.`, `.block.`, `.`; a number that is written out is a place with nothing to find out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

NUMBER = re.compile("([0-9]+)")
PLACE = re.compile(r"(\{[^{}]*\}|[0-9]+)")
TERM = re.compile(r"([+-]?)([0-9]*)([a-z]?)(?:<([0-9]+))?")
DIGITS = 6  # no layout counts further, and nobody may make us read a longer number

Texts = tuple[str, ...]
Indices = Mapping[str, int]


class Place(NamedTuple):
    """`constant` + the sum of factor * index over `terms`: none, one, or two of which the second has the factor 1."""

    constant: int
    terms: tuple[tuple[str, int], ...]


class Pattern(NamedTuple):
    """One text more than places. An open pattern claims whatever begins so."""

    texts: Texts
    places: tuple[Place, ...]
    bounds: tuple[tuple[str, int], ...]

    @property
    def is_open(self) -> bool:
        return self.texts[-1].endswith(".")

    @property
    def names(self) -> list[str]:
        return sorted(name for place in self.places for name, _ in place.terms)


def parse_pattern(text: str) -> Pattern:
    """Raises ValueError for a pattern that is not one."""
    parts = PLACE.split(text)
    places: list[Place] = []
    bounds: list[tuple[str, int]] = []
    for part in parts[1::2]:
        place, found = parse_place(part.strip("{}"), text)
        places.append(place)
        bounds += found
    return Pattern(tuple(parts[::2]), tuple(places), tuple(bounds))


def parse_place(expression: str, text: str) -> tuple[Place, list[tuple[str, int]]]:
    constant, reached = 0, 0
    terms: list[tuple[str, int]] = []
    bounds: list[tuple[str, int]] = []
    while reached < len(expression):
        found = TERM.match(expression, reached)
        if found is None or found.end() == reached or not (found[2] or found[3]):
            raise ValueError(f"{text}: cannot read {expression}")
        factor = int(found[2] or 1) * (-1 if found[1] == "-" else 1)
        if found[3]:
            terms.append((found[3], factor))
        else:
            constant += factor
        if found[4]:
            bounds.append((found[3], int(found[4])))
        reached = found.end()
    if len(terms) > 2 or (len(terms) == 2 and (terms[0][1] < 2 or terms[1][1] != 1)):
        raise ValueError(f"{text}: {expression} cannot be undone")
    return Place(constant, tuple(terms)), bounds


def split_name(name: str) -> tuple[Texts, list[str]]:
    """The texts between the numbers of a name, and the numbers as they are written."""
    parts = NUMBER.split(name)
    return tuple(parts[::2]), parts[1::2]


def fits_texts(pattern: Pattern, texts: Texts) -> bool:
    """Whether a name with these texts may be claimed, whatever its numbers."""
    count = len(pattern.places)
    if len(texts) <= count or texts[:count] != pattern.texts[:count]:
        return False
    if pattern.is_open:
        return texts[count].startswith(pattern.texts[count])
    return texts[count] == pattern.texts[count] and len(texts) == count + 1


def read_indices(pattern: Pattern, digits: Sequence[str], bounds: Indices) -> dict[str, int] | None:
    """The indices that give a name's numbers; None if there are none. Every index is at least 0 and below its bound."""
    indices: dict[str, int] = {}
    for place, written in zip(pattern.places, digits, strict=False):
        if len(written) > DIGITS or (written[0] == "0" and len(written) > 1):
            return None
        left = int(written) - place.constant
        if place.terms:
            first, factor = place.terms[0]
            indices[first], left = divmod(left, factor)
            if len(place.terms) == 2:
                indices[place.terms[1][0]], left = left, 0
        if left:
            return None
    if any(index < 0 or index >= bounds.get(name, index + 1) for name, index in indices.items()):
        return None
    return indices


def fill_pattern(pattern: Pattern, indices: Indices) -> str:
    name = pattern.texts[0]
    for place, text in zip(pattern.places, pattern.texts[1:], strict=True):
        name += f"{place.constant + sum(factor * indices[index] for index, factor in place.terms)}{text}"
    return name
