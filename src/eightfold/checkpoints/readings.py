"""What a denoiser's output means, where a file of the family may mean several things by it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.errors import CheckpointError, ConfigError, RequestError
from ..specs.family import PREDICTIONS, Family, Reading
from ..specs.process import Edm, Process
from ..specs.space import Normalisation
from .entries import Inventory
from .folder import SCHEDULER
from .load import read_tensors

DAMAGED = "the file is damaged: fetch it again"


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """The family as a file means it, and how that shows: nothing where the family means one thing only.

    `normalisation` is that of the file's latents where it brings one of its own.
    """

    family: Family
    note: str = ""
    normalisation: Normalisation | None = None


def find_meaning(family: Family, tensors: Mapping[str, Tensor], inventory: Inventory, prediction: str | None) -> Meaning:
    """By the first of the family's readings that holds. `tensors` are the denoiser's, in our layout, `inventory` is the whole file's.

    A `prediction` that is asked for goes before what is found; what noise is to the model stays as it was found. Raises RequestError for
    one that does not exist, CheckpointError where the file's own numbers cannot be.
    """
    chosen = next((one for one in PREDICTIONS if one == prediction), None)
    if prediction is not None and chosen is None:
        raise RequestError(f"prediction {prediction!r}: expected {', '.join(PREDICTIONS)}", hint="--prediction velocity")
    facts, told, meaning = list_declared(inventory.metadata), "", Meaning(family=family)
    for reading in family.readings:
        found, why = holds(reading, tensors, inventory, facts)
        told = told or why
        if found:
            meaning, told = take(family, reading, inventory), why
            break
    if chosen is not None:
        return replace(meaning, family=replace(meaning.family, prediction=chosen), note=f"it predicts {chosen}: asked for")
    return replace(meaning, note=f"it predicts {meaning.family.prediction}: {told}") if told else meaning


def list_declared(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a file says of itself: its metadata, and for a folder the scheduler's settings as "scheduler.NAME"."""
    try:
        table = json.loads(metadata.get(SCHEDULER, "{}"))
    except (ValueError, RecursionError):
        table = {}
    settings = table.items() if isinstance(table, dict) else ()
    return {**metadata, **{f"scheduler.{name}": str(value) for name, value in settings}}


def holds(reading: Reading, tensors: Mapping[str, Tensor], inventory: Inventory, facts: Mapping[str, str]) -> tuple[bool, str]:
    """Whether the file says so, and what was seen."""
    for name, value in reading.declared:
        if facts.get(name) == value:
            return True, f"its {name} is {value}"
    if reading.spread is None:
        found = bool(reading.key) and reading.key in inventory.tensors
        return found, f"the file has {reading.key}" if found else ""
    if reading.key not in tensors:
        return False, ""
    spread = float(tensors[reading.key].float().std())
    than = "more" if spread > reading.spread else "no more"
    return spread > reading.spread, f"the numbers of {reading.key} spread by {spread:.3f}, {than} than {reading.spread}"


def take(family: Family, reading: Reading, inventory: Inventory) -> Meaning:
    process = reading.process or family.process
    if reading.levels is not None:
        process = read_levels(process, reading.levels, inventory)
    found = replace(
        family,
        prediction=reading.prediction or family.prediction,
        process=process,
        defaults=reading.defaults or family.defaults,
        reads=reading.reads or family.reads,
    )
    normalisation = None if reading.moments is None else read_moments(reading.moments, family.space.latent_channels, inventory)
    return Meaning(family=found, normalisation=normalisation)


def read_levels(process: Process, names: tuple[str, str], inventory: Inventory) -> Process:
    """The process between the noise levels that the file gives."""
    assert isinstance(process, Edm)
    low, high = (read_numbers(inventory, name, 1) if name in inventory.tensors else None for name in names)
    try:
        return replace(process, lowest=low[0] if low else process.lowest, highest=high[0] if high else process.highest)
    except ConfigError as error:
        raise CheckpointError(f"{inventory.source}: {error}", hint=DAMAGED) from None


def read_moments(names: tuple[str, str], channels: int, inventory: Inventory) -> Normalisation:
    mean, std = (read_numbers(inventory, name, channels) for name in names)
    if min(std) <= 0:
        raise CheckpointError(f"{inventory.source}: {names[1]} is {std}; expected numbers above 0", hint=DAMAGED)
    return Normalisation.from_moments(mean=mean, std=std)


def read_numbers(inventory: Inventory, name: str, count: int) -> tuple[float, ...]:
    """All numbers of a small tensor. Raises CheckpointError unless there are `count`, all finite."""
    found = inventory.tensors.get(name)
    if found is None:
        raise CheckpointError(f"{inventory.source} lacks {name}, which goes with what else it has", hint=DAMAGED)
    tensor = next(iter(read_tensors(inventory.keep({name: found}, {})).values())).double().flatten()
    if tensor.numel() != count or not bool(torch.isfinite(tensor).all()):
        what = f"{inventory.source}: {name} is {tensor.tolist()[:9]}; expected {count} finite numbers"
        raise CheckpointError(what, hint=DAMAGED)
    return tuple(tensor.tolist())


def leave_marks(family: Family, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what only says how the others are meant: a file of a denoiser alone has it among them."""
    said = [reading for reading in family.readings if reading.spread is None]
    marks = {name for one in said for name in (one.key, *(one.levels or ()), *(one.moments or ()))}
    return {name: tensor for name, tensor in tensors.items() if name not in marks}
