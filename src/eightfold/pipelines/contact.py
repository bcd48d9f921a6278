"""One request drawn with several values of one field, or of two, side by side on one labelled sheet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..codec.pixels import Picture
from ..core.errors import RequestError, UnknownName
from .bundle import Model
from .generate import GenerationStep
from .request import Request, to_size, to_text
from .sheet import to_sheet

FIELDS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("prompt", "negative", "sampler", "grid"), str.strip),
    **dict.fromkeys(("steps", "seed", "variation_seed", "feather"), int),
    **dict.fromkeys(
        ("guidance", "rescale", "eta", "strength", "variation", "enlarge", "enlarge_strength", "handover", "picture_guidance"), float
    ),
    "size": to_size,
}


@dataclass(frozen=True)
class Axis:
    """A field of the request, and its values along one side of the sheet."""

    field: str
    values: tuple[Any, ...]

    def label(self, value: Any) -> str:
        return f"{self.field} {to_text(value) if self.field == 'size' else value}"


def to_axis(text: str) -> Axis:
    """ "steps=5,10,20", or with | between values that have commas in them. Raises UnknownName, RequestError."""
    name, equals, rest = text.partition("=")
    field = name.strip().replace("-", "_")
    hint = "steps=5,10,20, or with prompts: prompt=a red cube|a blue ball"
    if not equals:
        raise RequestError(f"{text!r} is not FIELD=VALUE,VALUE", hint=hint)
    if field not in FIELDS:
        raise UnknownName("field", field, FIELDS)
    parts = [part for part in rest.split("|" if "|" in rest else ",") if part.strip()]
    try:
        values = tuple(FIELDS[field](part) for part in parts)
    except ValueError:
        raise RequestError(f"{text!r}: {field} is a number", hint=hint) from None
    if not values:
        raise RequestError(f"{text!r} has no values", hint=hint)
    return Axis(field, values)


def list_requests(base: Request, across: Axis, down: Axis | None) -> list[tuple[str, Request]]:
    """A request for each cell, row by row, with its label."""
    if down is not None and down.field == across.field:
        raise RequestError(f"{across.field} goes both across and down", hint="name two fields")
    found: list[tuple[str, Request]] = []
    for below in (None,) if down is None else down.values:
        for value in across.values:
            changes = {across.field: value} | ({} if down is None else {down.field: below})
            label = across.label(value) if down is None else f"{across.label(value)}, {down.label(below)}"
            found.append((label, replace(base, **changes)))
    return found


def draw_contact(model: Model, cells: Sequence[tuple[str, Request]], columns: int) -> Iterator[GenerationStep | Picture]:
    """Every step of every picture, and at the end the sheet. All requests are checked before the first step of any."""
    runs = [model.generate(request) for _, request in cells]
    images: list[Tensor] = []
    for run in runs:
        step = None
        for step in run:
            yield step
        assert step is not None
        images.append(step.images[0].image)
    yield Picture(to_sheet(images, columns=columns, labels=[label for label, _ in cells]))
