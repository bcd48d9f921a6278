"""Prompts as people write them for Stable Diffusion: weights in brackets, and `BREAK`. No tokens here.

The notation is that of AUTOMATIC1111's web UI (its wiki, "Attention/emphasis"): `(word)` counts 1.1 times, `[word]` 1/1.1 times,
`(word:1.3)` 1.3 times; brackets multiply, and those never closed reach to the end. A backslash before a bracket or a backslash makes it a
letter; before anything else, unlike there, it stays what it is. BREAK ends a chunk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

ROUND, SQUARE = 1.1, 1 / 1.1
LARGEST = 999_999.0  # a weight beyond it is cut down to it: products of brackets could become infinite
BREAK = re.compile(r"\bBREAK\b")
MARKS = re.compile(r"\\(?P<escaped>[\\()\[\]])|:\s*(?P<weight>[+-]?(?:[0-9]{1,6}(?:\.[0-9]*)?|\.[0-9]+))\s*\)|(?P<mark>[()\[\]])")
SPECIAL = re.compile(r"[\\()\[\]]")


class Span(NamedTuple):
    """A stretch of text that counts `weight` times."""

    text: str
    weight: float = 1.0


Section = tuple[Span, ...]  # neighbours differ in weight, none is empty


class Reader:
    """What has been read: spans, and None for each BREAK; where the open brackets of either kind began."""

    def __init__(self) -> None:
        self.spans: list[Span | None] = []
        self.round: list[int] = []
        self.square: list[int] = []

    def add(self, text: str) -> None:
        """BREAK takes the blanks around it for its own."""
        parts = BREAK.split(text)
        for number, part in enumerate(parts):
            inner = part.lstrip() if number else part
            inner = inner.rstrip() if number < len(parts) - 1 else inner
            self.spans += [None] if number else []
            self.spans += [Span(inner)] if inner else []

    def multiply(self, begin: int, weight: float) -> None:
        for place, span in enumerate(self.spans[begin:], begin):
            if span is not None:
                self.spans[place] = span._replace(weight=min(max(span.weight * weight, -LARGEST), LARGEST))

    def read_mark(self, mark: str) -> None:
        if mark == "(":
            self.round.append(len(self.spans))
        elif mark == "[":
            self.square.append(len(self.spans))
        elif mark == ")" and self.round:
            self.multiply(self.round.pop(), ROUND)
        elif mark == "]" and self.square:
            self.multiply(self.square.pop(), SQUARE)
        else:
            self.spans.append(Span(mark))

    def close(self) -> None:
        """Every bracket that is still open reaches to here."""
        for begin in self.round:
            self.multiply(begin, ROUND)
        for begin in self.square:
            self.multiply(begin, SQUARE)


def parse_prompt(prompt: str) -> tuple[Section, ...]:
    """The stretches between one BREAK and the next, at least one; for any text whatever."""
    reader, reached = Reader(), 0
    for found in MARKS.finditer(prompt):
        reader.add(prompt[reached : found.start()])
        reached = found.end()
        if found["escaped"]:
            reader.spans.append(Span(found["escaped"]))
        elif found["mark"]:
            reader.read_mark(found["mark"])
        elif reader.round:
            reader.multiply(reader.round.pop(), float(found["weight"]))
        else:
            reader.add(found.group())
    reader.add(prompt[reached:])
    reader.close()
    sections: list[list[Span]] = [[]]
    for span in reader.spans:
        if span is None:
            sections.append([])
        elif span.text:
            sections[-1].append(span)
    return tuple(tuple(join_alike(section)) for section in sections)


def join_alike(spans: Sequence[Span]) -> list[Span]:
    groups = groupby(spans, key=lambda span: span.weight)
    return [Span("".join(span.text for span in group), weight) for weight, group in groups]


def format_prompt(sections: Sequence[Section]) -> str:
    """The shortest plain way to write it: `parse_prompt` gives the same back."""
    return " BREAK ".join("".join(format_span(span, edged=len(sections) > 1) for span in section) for section in sections)


def format_span(span: Span, *, edged: bool) -> str:
    """`edged`: a BREAK may stand beside it, which takes blanks for its own."""
    text = BREAK.sub("BREA(K:1)", SPECIAL.sub(r"\\\g<0>", span.text))
    if span.weight == 1 and not (edged and span.text != span.text.strip()):
        return text
    return f"({text}:{Decimal(repr(span.weight)):f})"


def is_plain(sections: Sequence[Section]) -> bool:
    """Whether nothing counts more or less than once."""
    return all(span.weight == 1 for section in sections for span in section)
