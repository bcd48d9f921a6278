"""What a denoiser's output means, where a file of the family may mean several things by it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

from torch import Tensor

from ..core.errors import RequestError
from ..specs.family import PREDICTIONS, Family, Reading


def find_reading(family: Family, tensors: Mapping[str, Tensor], names: Container[str], prediction: str | None) -> tuple[Family, str]:
    """The family as this file means it, and how that shows; nothing where the family means one thing only.

    `tensors` are the denoiser's, in our layout, `names` all of the file's own. A `prediction` that is asked for goes before what is found.
    Raises RequestError for one that does not exist.
    """
    if prediction is not None:
        chosen = next((one for one in PREDICTIONS if one == prediction), None)
        if chosen is None:
            raise RequestError(f"prediction {prediction!r}: expected {', '.join(PREDICTIONS)}", hint="--prediction velocity")
        return replace(family, prediction=chosen), f"it predicts {chosen}: asked for"
    told = ""
    for reading in family.readings:
        found, why = holds(reading, tensors, names)
        if found:
            return take(family, reading), f"it predicts {reading.prediction or family.prediction}: {why}"
        told = told or why
    return family, f"it predicts {family.prediction}: {told}" if told else ""


def holds(reading: Reading, tensors: Mapping[str, Tensor], names: Container[str]) -> tuple[bool, str]:
    """Whether the file says so, and what was seen."""
    if reading.spread is None:
        return reading.key in names, f"the file has {reading.key}" if reading.key in names else ""
    if reading.key not in tensors:
        return False, ""
    spread = float(tensors[reading.key].float().std())
    than = "more" if spread > reading.spread else "no more"
    return spread > reading.spread, f"the numbers of {reading.key} spread by {spread:.3f}, {than} than {reading.spread}"


def take(family: Family, reading: Reading) -> Family:
    defaults = family.defaults if reading.size is None else replace(family.defaults, size=reading.size)
    return replace(family, prediction=reading.prediction or family.prediction, process=reading.process or family.process, defaults=defaults)


def leave_marks(family: Family, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what only says how the others are meant: a file of a denoiser alone has it among them."""
    marks = {reading.key for reading in family.readings if reading.spread is None}
    return {name: tensor for name, tensor in tensors.items() if name not in marks}
