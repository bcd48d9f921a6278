"""eightfold info: what a file is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .console import DONE, say, say_json


def info(file: Path, *, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """What is in an image, a latent file or a weight file, without decoding or loading it.

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
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            say(f"{name:<{width}}  {to_text(value)}")
    return DONE


def to_text(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {part}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value)
    return str(value)
