"""What means something in the prompts of other programs, and is plain text here: found, so that nobody takes it to be at work.

Sources: the wiki of AUTOMATIC1111's web UI ("Features": prompt editing, alternating words, composable diffusion, extra networks), the
README of adieyal/sd-dynamic-prompts (braces, wildcards), InvokeAI's docs/features/PROMPTS.md (weights behind brackets, blends).
"""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST = 60  # characters of it that are shown
DRAWS_ONE = "a picture here is drawn from one prompt from its first step to its last: write one of them"

ROWS = (  # a pattern, and what to do instead
    (r"(?<!\\)\[[^\[\]]*:\s*[0-9.]+\s*\]", DRAWS_ONE),
    (r"(?<!\\)\[[^\[\]|]*\|[^\[\]]*\]", DRAWS_ONE),
    (r"<(?:lora|lyco):[^<>]*>", "give its file with --lora FILE:WEIGHT (adapters in Python)"),
    (r"<hypernet:[^<>]*>", "there are no hypernetworks here"),
    (r"\bAND\b", "prompts are not joined here: BREAK begins a new chunk"),
    (r"\{[^{}|]*\|[^{}]*\}", "write each choice as a prompt of its own: --prompts FILE takes one a line"),
    (r"\{[^{}]+\}", "braces are letters here: (word:1.1) makes a word count more"),
    (r"\b__[A-Za-z0-9][A-Za-z0-9_/*.-]{0,99}?__", "lists of words are not looked up: --prompts FILE takes one prompt a line"),
    (r"\)(?:[0-9]*\.[0-9]+|\++|-+)(?=[\s,.)]|\Z)", "a weight stands inside the brackets: (word:1.3)"),
    (r"\)\.(?:blend|and|swap)\(", "prompts are not mixed here"),
)
FOREIGN = re.compile("|".join(f"(?P<row{number}>{pattern})" for number, (pattern, _) in enumerate(ROWS)))


class Foreign(NamedTuple):
    """A stretch of a prompt, and what to do instead."""

    text: str
    advice: str

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= LONGEST else f"{self.text[:LONGEST]}..."
        return f"{shown} is read as plain text: {self.advice}"


def find_foreign(prompt: str) -> tuple[Foreign, ...]:
    """Each once and in order: `[cat:dog:0.5]`, `[cat|dog]`, `<lora:NAME:1>`, `AND`, `{cat|dog}`, `__animal__`, `(cat)1.3`.

    Such a prompt is still read, as what our notation makes of it.
    """
    found = (Foreign(one.group(), ROWS[int((one.lastgroup or "")[3:])][1]) for one in FOREIGN.finditer(prompt))
    return tuple(dict.fromkeys(found))
