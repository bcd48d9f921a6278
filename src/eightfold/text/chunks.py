"""Prompts of any length in the chunks that a CLIP tower reads, each between its begin and its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .inversion import Dictionary, Inversion
from .prompt import Section
from .tokenizer import ClipTokenizer

REACH = 20


class Item(NamedTuple):
    """One token: its number and weight, or as `row` of the vectors of `word`."""

    number: int
    weight: float
    word: Inversion | None = None
    row: int = 0


Chunk = list[Item]


def to_items(section: Section, tokenizer: ClipTokenizer, dictionary: Dictionary) -> list[Chunk]:
    """What must stay together: each token alone, all vectors of an inversion as one. Every stretch of text is read for itself."""
    groups: list[Chunk] = []
    for span in section:
        for piece in dictionary.split(span.text):
            if isinstance(piece, str):
                groups += [[Item(number, span.weight)] for number in tokenizer.to_numbers(piece)]
            else:
                groups.append([Item(0, span.weight, piece, row) for row in range(piece.count)])
    return groups


def cut_chunks(groups: Sequence[Chunk], room: int, comma: int) -> list[Chunk]:
    """Full chunks one after the other and what is left; nothing for nothing.

    A full chunk ends behind its last comma if that is one of its last REACH tokens: a phrase is not torn. The rule and the number are
    those of AUTOMATIC1111's web UI ("padding backtrack"), so that its long prompts mean the same here.
    """
    chunks: list[Chunk] = []
    chunk: Chunk = []
    last: int | None = None  # where the chunk's last comma is
    for group in groups:
        if group[0].number == comma and group[0].word is None:
            last = len(chunk)
        elif len(chunk) == room and last is not None and len(chunk) - last <= REACH:
            chunks.append(chunk[: last + 1])
            chunk, last = chunk[last + 1 :], None
        if len(chunk) + len(group) > room:
            chunks.append(chunk)
            chunk, last = [], None
        chunk = chunk + group
    return [*chunks, chunk] if chunk else chunks


def to_chunks(sections: Sequence[Section], tokenizer: ClipTokenizer, dictionary: Dictionary, room: int) -> list[Chunk]:
    """At least one chunk. A section begins a new one, also where a BREAK leaves it empty; an empty last one is none."""
    chunks: list[Chunk] = []
    for number, section in enumerate(sections):
        cut = cut_chunks(to_items(section, tokenizer, dictionary), room, tokenizer.comma)
        chunks += cut or ([[]] if number < len(sections) - 1 else [])
    return chunks or [[]]
