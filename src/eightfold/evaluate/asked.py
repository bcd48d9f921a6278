"""What the pocket model is asked to draw, and whether a picture shows it, by the judge's findings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..data.solids import COLOURS, HALF_FRAME, SHAPES
from .judge import Finding

PAIRS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
RELATIONS = ("left of", "right of", "in front of", "behind")
SLANT = 0.4  # a relation's own distance is this share of the other one's; captions ask for 0.5, but distances are found too small


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt and what it asks for: one (colour, shape), or two and the relation of the first to the second."""

    prompt: str
    solids: tuple[tuple[str, str], ...]
    relation: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is right in a picture of several solids."""

    count: bool
    solids: bool  # all that were asked for are there
    relation: bool  # and stand as they should

    @property
    def all(self) -> bool:
        return self.count and self.solids and self.relation


def name_pair(pair: tuple[str, str]) -> str:
    return " ".join(pair)


def with_article(pair: tuple[str, str]) -> str:
    return f"{'an' if pair[0][0] in 'aeiou' else 'a'} {name_pair(pair)}"


def ask_for_one(count: int, seed: int) -> list[Asked]:
    """`count` prompts such as "a red cube". Stratified: every 32 in a row hold each pair of colour and shape once, in random order."""
    rng = random.Random(f"one/{seed}")
    rounds = -(-count // len(PAIRS))
    drawn = [pair for _ in range(rounds) for pair in rng.sample(PAIRS, len(PAIRS))]
    return [Asked(prompt=with_article(pair), solids=(pair,)) for pair in drawn[:count]]


def ask_for_two(count: int, seed: int) -> list[Asked]:
    """`count` prompts such as "a red cube left of a blue sphere": relations in turn, two different pairs drawn evenly."""
    rng = random.Random(f"two/{seed}")
    asked: list[Asked] = []
    for number in range(count):
        first, second = rng.sample(PAIRS, 2)
        relation = RELATIONS[number % len(RELATIONS)]
        prompt = f"{with_article(first)} {relation} {with_article(second)}"
        asked.append(Asked(prompt=prompt, solids=(first, second), relation=relation))
    return asked


def relate_found(first: Finding, second: Finding) -> tuple[str, ...]:
    """The relations of `first` to `second` that hold by their places and distances.

    The rule of captions (`data.captions.relate`) without its least distances, which need sizes that the judge does not know: a
    direction counts unless the distance the other way is much larger.
    """
    aside = HALF_FRAME * (first.x * first.depth - second.x * second.depth)
    deeper = first.depth - second.depth
    found: list[str] = []
    if abs(aside) > SLANT * abs(deeper) and (first.x > second.x) == (aside > 0):
        found.append("right of" if aside > 0 else "left of")
    if abs(deeper) > SLANT * abs(aside):
        found.append("behind" if deeper > 0 else "in front of")
    return tuple(found)


def pick_found(pairs: Sequence[tuple[str, str]], findings: Sequence[Finding]) -> list[Finding] | None:
    """The surest finding of each pair, or None where one is missing. `findings` come most confident first."""
    kinds = [(finding.colour, finding.shape) for finding in findings]
    return [findings[kinds.index(pair)] for pair in pairs] if {*pairs} <= {*kinds} else None


def judge_picture(asked: Asked, findings: Sequence[Finding]) -> Verdict:
    """Whether exactly the solids asked for are there, and whether the first stands as it should to the second."""
    picked = pick_found(asked.solids, findings)
    related = picked is not None and (not asked.relation or asked.relation in relate_found(*picked))
    return Verdict(count=len(findings) == len(asked.solids), solids=picked is not None, relation=related)


def describe(findings: Sequence[Finding]) -> str:
    """What was found, for a label: "red cube + blue sphere"."""
    return " + ".join(f"{finding.colour} {finding.shape}" for finding in findings) or "nothing"
