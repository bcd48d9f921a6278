"""What becomes of a request's prompts: how long they are, and what in them is not read as other programs would."""

from __future__ import annotations

from ..specs.family import Family
from ..specs.text import ClipText
from ..text.condition import Conditioner, Length
from ..text.foreign import find_foreign
from .request import Plan, Request


def measure_prompts(plan: Plan | Request, text: Conditioner) -> dict[str, Length]:
    """The lengths of the prompt and, where there is one, of the negative prompt."""
    prompts = {"prompt": plan.prompt, "negative": plan.negative}
    return {name: text.measure(prompt) for name, prompt in prompts.items() if prompt or name == "prompt"}


def note_lengths(plan: Plan | Request, text: Conditioner) -> tuple[str, ...]:
    """Of each that takes more than one chunk: nothing of it is cut off, but words in different chunks know little of each other."""
    words = {"prompt": "the prompt", "negative": "the negative prompt"}
    lengths = measure_prompts(plan, text)
    return tuple(f"{words[name]} has {length}" for name, length in lengths.items() if len(length.counts) > 1)


def warn_of_prompts(plan: Plan, family: Family) -> tuple[str, ...]:
    """What in them would mean something to another program. A closed list of words has no notation."""
    if not isinstance(family.text, ClipText):
        return ()
    found = {f"the {name}": prompt for name, prompt in (("prompt", plan.prompt), ("negative prompt", plan.negative))}
    return tuple(f"{name}: {one}" for name, prompt in found.items() for one in find_foreign(prompt))
