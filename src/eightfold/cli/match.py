"""eightfold match: whether two files belong together."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from .console import DONE, say, say_json, show_loading
from .options import Flag


def match(first: Path, second: Path, /, *, json: Flag = False) -> int:
    """Whether two files belong together, autoencoders, models or latents: by fingerprint, by their spaces, then by trying.

    Parameters
    ----------
    first, second
        The files.
    json
        Print the answer as JSON.
    """
    with show_loading("both files"):
        from ..pipelines.match import match as compare

        answer = compare(first, second)
    if json:
        say_json({"first": str(first), "second": str(second), **asdict(answer)})
    else:
        say("\n".join([f"{answer.answer}: {first} and {second}", *(f"  {reason}" for reason in answer.reasons)]))
        for name, value in answer.figures.items():
            say(f"  {name}: {value:.1f} dB")
    return DONE
