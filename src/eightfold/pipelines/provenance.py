"""How a picture was made, as its own metadata say: one dataclass, whichever program wrote them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

from ..core.errors import ImageError

LONGEST = 2**22  # characters of one text in a file that are looked at
LONGEST_VALUE = 2**16  # characters of one value that are kept, where it is not a prompt
LARGEST_SEED = 2**64


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A low-rank addition to the weights, by the name of its file.

    Where they are known: `file` as it was named, `sha256` of its content, and `short`, the first digits of A1111's hash of it.
    """

    name: str
    weight: float
    file: str = ""
    sha256: str = ""
    short: str = ""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a picture was made, in the words of a Request; None is what its metadata do not say.

    `source` is who wrote them: eightfold, a1111 (and all that write its text), comfyui or invokeai. Samplers and grids have the names that
    the program has for them. `size` is width, height; `strength` the share of the noise that a start image was given, `variation` the share
    of the noise of `variation_seed`; `clip_skip` counts from 1, the last layer. `extra` holds all else, by the program's own names.
    """

    source: str
    prompt: str = ""
    negative: str = ""
    size: tuple[int, int] | None = None
    seed: int | None = None
    steps: int | None = None
    sampler: str | None = None
    grid: str | None = None
    guidance: float | None = None
    eta: float | None = None
    strength: float | None = None
    clip_skip: int | None = None
    noise_source: str | None = None
    variation: float | None = None
    variation_seed: int | None = None
    model: str | None = None
    model_hash: str | None = None
    vae: str | None = None
    vae_hash: str | None = None
    loras: tuple[Lora, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


def to_facts(found: Provenance) -> dict[str, Any]:
    """What is known, by the names of the fields, as JSON holds it."""
    facts: dict[str, Any] = {}
    for one in fields(found):
        value = getattr(found, one.name)
        if value is None or value in ((), {}, ""):
            continue
        facts[one.name] = value
    if found.size:
        facts["size"] = list(found.size)
    if found.loras:
        facts["loras"] = {lora.name: lora.weight for lora in found.loras}
    return facts


def to_table(text: str, *, what: str) -> dict[str, Any]:
    """JSON that should be an object. ImageError for everything else; `what` is what it was taken for."""
    if len(text) > LONGEST:
        raise ImageError(f"{what} of {len(text)} characters is longer than {LONGEST}", hint="no program writes as much")
    try:
        table = json.loads(text, parse_constant=lambda _: None)  # ComfyUI writes NaN
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]
        raise ImageError(f"{what} is no JSON that can be read: {reason}", hint="the file may be damaged, or cut off") from None
    if not isinstance(table, dict):
        raise ImageError(f"{what}: expected a JSON object, found {type(table).__name__}", hint="it was written by another program")
    return cast(dict[str, Any], table)


def to_whole(value: Any, low: int = 0, high: int = LARGEST_SEED - 1) -> int | None:
    """A whole number from `low` to `high`, also as text or as 7.0; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,20}\s*", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else None


def to_number(value: Any) -> float | None:
    """A finite number of reasonable size, also as text; None for anything else."""
    if isinstance(value, str):
        if not re.fullmatch(r"\s*-?[0-9]{0,12}\.?[0-9]{0,20}([eE][-+]?[0-9]{1,3})?\s*", value):
            return None
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e6 or not math.isfinite(value):
        return None
    return float(value)


def to_text(value: Any, longest: int = LONGEST_VALUE) -> str | None:
    """A text that says something and is not longer than `longest`; None for anything else."""
    return value if isinstance(value, str) and value.strip() and len(value) <= longest else None


def to_prompt(value: Any) -> str:
    return value if isinstance(value, str) else ""


def to_pair(width: Any, height: Any) -> tuple[int, int] | None:
    """A size in pixels, or None."""
    sides = to_whole(width, 1, 2**20), to_whole(height, 1, 2**20)
    return (sides[0], sides[1]) if sides[0] is not None and sides[1] is not None else None


def to_loras(pairs: Iterable[tuple[Any, Any]]) -> tuple[Lora, ...]:
    """Names and weights as they are found; those without a name are none."""
    found: list[Lora] = []
    for name, weight in pairs:
        known, number = to_text(name), to_number(weight)
        if known is not None:
            found.append(Lora(name=known, weight=1.0 if number is None else number))
    return tuple(found[:1000])


def to_extra(table: Mapping[str, Any], without: Iterable[str] = ()) -> dict[str, Any]:
    """What is left of a table: texts, numbers and flags as they are, all else as JSON; nothing that says nothing."""
    extra: dict[str, Any] = {}
    left_out = set(without)
    for name, value in table.items():
        if name in left_out or value is None or value == "" or value == [] or value == {}:
            continue
        kept = value if isinstance(value, str | int | float | bool) else json.dumps(value, ensure_ascii=False)
        extra[name] = kept[:LONGEST_VALUE] if isinstance(kept, str) else kept
    return extra
