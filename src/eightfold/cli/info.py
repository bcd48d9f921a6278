"""eightfold info: what a file is."""

from __future__ import annotations

from pathlib import Path

from .console import DONE, say, say_json
from .options import Flag

SHOWN = 1000  # characters of a value


def info(file: Path, /, *, json: Flag = False) -> int:
    """What is in an image, a latent file or a weight file, without decoding or loading it.

    Of a picture also how it was made, as Eightfold, A1111, ComfyUI or InvokeAI wrote it into the file.

    Parameters
    ----------
    file
        The file.
    json
        Print it as JSON.
    """
    from ..pipelines.inspect import read_info

    facts = read_info(file)
    if json:
        say_json(facts)
    else:
        say("\n".join(to_lines(facts)))
    return DONE


def to_lines(facts: dict[str, object]) -> list[str]:
    """A line a fact; tables below their name, indented."""
    width = max(len(name) for name in facts)
    lines: list[str] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [name, *(f"  {line}" for line in (to_lines(value) if value else ["none"]))]
        else:
            lines.append(f"{name:<{width}}  {to_text(value)}")
    return lines


def to_text(value: object) -> str:
    """On one line, and not more of it than a screen holds: a graph of ComfyUI has a hundred thousand characters. JSON has all."""
    text = ", ".join(str(part) for part in value) if isinstance(value, list | tuple) else str(value)
    line = " ".join(text[: 2 * SHOWN].split())
    return line if len(text) <= SHOWN else f"{line[:SHOWN]}... ({len(text)} characters)"
