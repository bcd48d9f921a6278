"""The rows of a keymap with everything that stands around them, and which of them claims a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from ..specs.keymap import Change, Keymap, Row
from .patterns import Pattern, Texts, fill_pattern, fits_texts, parse_pattern, read_indices, split_name


class Rule(NamedTuple):
    """A row with everything that stands around it, ready for use."""

    before: Pattern
    after: tuple[Pattern, ...]
    bounds: dict[str, int]
    shares: tuple[int, ...]
    change: Change


class Claim(NamedTuple):
    """A rule for a name: the part of `after` that the name is, what it begins with on the other side (once a pattern), and what follows."""

    rule: Rule
    part: int
    heads: tuple[str, ...]
    rest: str


class Entry(NamedTuple):
    """A pattern to look for and those to write in its place. `known` remembers what numbers led to: how far it reaches, and the heads."""

    pattern: Pattern
    others: tuple[Pattern, ...]
    rule: Rule
    part: int
    known: dict[tuple[str, ...], tuple[int, tuple[str, ...]] | None]


@cache
def compile_rules(keymap: Keymap) -> tuple[Rule, ...]:
    """Raises ValueError, naming the row, for rows that cannot be undone."""
    return tuple(to_rule(before, after, row) for before, after, row in flatten(keymap.rows, "", ""))


def flatten(rows: Sequence[Row], before: str, after: str) -> Iterator[tuple[str, tuple[str, ...], Row]]:
    """Every row that has none inside, with the whole of its patterns."""
    for row in rows:
        if row.inside:
            if isinstance(row.after, tuple) or not row.before.endswith(".") or not row.after.endswith("."):
                raise ValueError(f"{before + row.before}: nothing can stand inside it")
            yield from flatten(row.inside, before + row.before, after + row.after)
        else:
            tails = (row.after,) if isinstance(row.after, str) else row.after
            yield before + row.before, tuple(after + tail for tail in tails), row


def to_rule(before: str, after: tuple[str, ...], row: Row) -> Rule:
    first, others = parse_pattern(before), tuple(map(parse_pattern, after))
    bounds = {name: bound for pattern in (first, *others) for name, bound in pattern.bounds}
    shares = row.shares or (1,) * len(others)
    if len(shares) != len(others):
        raise ValueError(f"{before}: {len(shares)} shares for {len(others)} parts")
    for pattern in (first, *others):
        if pattern.names != first.names or len({*pattern.names}) < len(pattern.names):
            raise ValueError(f"{before}: its sides have other indices, or one of them twice")
        if pattern.is_open != first.is_open:
            raise ValueError(f"{before}: one side ends in a dot and another does not")
        for place in pattern.places:
            if len(place.terms) == 2 and bounds.get(place.terms[1][0], place.terms[0][1] + 1) > place.terms[0][1]:
                raise ValueError(f"{before}: {place.terms[1][0]} needs a bound of at most {place.terms[0][1]}")
    return Rule(first, others, bounds, shares, row.change)


def build_finder(rules: Sequence[Rule], *, back: bool) -> Callable[[str], Claim | None]:
    """Which rule claims a name. The names of a network repeat few texts, and the same numbers in front of many: both are remembered."""
    if back:
        entries = [Entry(pattern, (rule.before,), rule, part, {}) for rule in rules for part, pattern in enumerate(rule.after)]
    else:
        entries = [Entry(rule.before, rule.after, rule, 0, {}) for rule in rules]
    remembered: dict[Texts, list[Entry]] = {}

    def find(name: str) -> Claim | None:
        texts, digits = split_name(name)
        found = remembered.get(texts)
        if found is None:
            found = remembered[texts] = [entry for entry in entries if fits_texts(entry.pattern, texts)]
        for entry in found:
            numbers = tuple(digits[: len(entry.pattern.places)])
            if numbers not in entry.known:
                entry.known[numbers] = read_heads(entry, numbers)
            reached = entry.known[numbers]
            if reached is not None:
                return Claim(entry.rule, entry.part, reached[1], name[reached[0] :])
        return None

    return find


def read_heads(entry: Entry, numbers: Sequence[str]) -> tuple[int, tuple[str, ...]] | None:
    indices = read_indices(entry.pattern, numbers, entry.rule.bounds)
    if indices is None:
        return None
    reach = sum(map(len, entry.pattern.texts)) + sum(map(len, numbers))
    return reach, tuple(fill_pattern(other, indices) for other in entry.others)


def covers(pattern: Pattern, name: str) -> bool:
    texts, digits = split_name(name)
    return fits_texts(pattern, texts) and read_indices(pattern, digits, {}) is not None
