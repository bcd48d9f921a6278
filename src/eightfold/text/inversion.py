"""Textual inversions (arXiv 2208.01618): words that a prompt may use and no vocabulary has, given by their token embeddings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..core.errors import WeightMismatch
from ..specs.text import ClipText

PREFIX = "embedding:"  # how ComfyUI marks such a word; nothing else is meant by it


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """`vectors` holds a tensor [k, width] for each width of tower that the word was trained for; k is the same for all.

    `names` are what it is called in a prompt; upper and lower case are one. `source` is the file it came from.
    """

    names: tuple[str, ...]
    vectors: Mapping[int, Tensor]
    source: str

    @property
    def count(self) -> int:
        """How many tokens of a prompt it takes."""
        return len(next(iter(self.vectors.values())))


def check_inversion(inversion: Inversion, text: ClipText) -> None:
    """Raise WeightMismatch for one of another width than the towers', or of more vectors than a chunk holds."""
    wanted = [reading.tower.width for reading in text.readings]
    if any(width not in inversion.vectors for width in wanted):
        has, reads = (" and ".join(map(str, widths)) for widths in (sorted(inversion.vectors), wanted))
        raise WeightMismatch(
            f"{inversion.source}: the word {inversion.names[0]!r} has vectors of {has} numbers, this model reads {reads}",
            hint="768 is Stable Diffusion 1, 1024 is 2, 768 and 1280 is XL: use one that was made for this model",
        )
    room = min(reading.tower.room for reading in text.readings)
    if not 0 < inversion.count <= room:
        raise WeightMismatch(
            f"{inversion.source}: the word {inversion.names[0]!r} takes {inversion.count} tokens, a chunk of the prompt has {room}",
            hint="no program can use it: fetch the file again",
        )


class Dictionary:
    """The inversions that may stand in a prompt, by name; of two with one name the later counts."""

    def __init__(self, inversions: Sequence[Inversion]) -> None:
        self.words = {name.lower(): one for one in inversions for name in one.names}
        parts = [bound(name) for name in sorted(self.words, key=len, reverse=True)]
        self.pattern = re.compile(f"(?:(?<!\\w){PREFIX})?({'|'.join(parts)})", re.IGNORECASE) if parts else None

    def split(self, text: str) -> list[str | Inversion]:
        """The text with its words for inversions taken out, in order."""
        if self.pattern is None:
            return [text]
        pieces: list[str | Inversion] = []
        reached = 0
        for found in self.pattern.finditer(text):
            word = self.words.get(found[1].lower())
            if word is not None:  # else a letter whose lower case is two letters: not one of the names
                pieces += [text[reached : found.start()], word]
                reached = found.end()
        return [*pieces, text[reached:]]


def bound(name: str) -> str:
    """A pattern for the name as a word of its own: `cat` is not in `cats`, while `<cat>` may touch its neighbours."""
    before = r"(?<!\w)" if re.match(r"\w", name) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", name) else ""
    return f"{before}{re.escape(name)}{after}"
