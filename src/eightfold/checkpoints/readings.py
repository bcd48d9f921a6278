"""What a denoiser's output means, where a file of the family may mean several things by it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite, prod

import torch
from torch import Tensor

from ..core.errors import CheckpointError, ConfigError, RequestError
from ..specs.family import PREDICTIONS, Family, Reading
from ..specs.process import Edm, Process
from ..specs.space import Normalisation
from .entries import Inventory
from .folder import AUTOENCODER, SCHEDULER
from .load import read_tensors

FEW = 100  # numbers of a small tensor
LONGEST = 100  # characters of a value that are told
DAMAGED = "the file is damaged: fetch it again"
TABLES = {"scheduler": SCHEDULER, "vae": AUTOENCODER}
MOMENTS = ("vae.latents_mean", "vae.latents_std")


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
            meaning, told = take(family, reading, inventory, facts), why
            break
    if chosen is not None:
        return replace(meaning, family=replace(meaning.family, prediction=chosen), note=f"it predicts {chosen}: asked for")
    return replace(meaning, note=f"it predicts {meaning.family.prediction}: {told}") if told else meaning


def list_declared(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a file says of itself: its metadata, and for a folder the settings in TABLES, such as "scheduler.NAME"."""
    facts = dict(metadata)
    for place, file in TABLES.items():
        try:
            table = json.loads(metadata.get(file, "{}"))
        except (ValueError, RecursionError):
            continue
        settings = table.items() if isinstance(table, dict) else ()
        facts |= {f"{place}.{name}": str(value) for name, value in settings if value is not None}
    return facts


def holds(reading: Reading, tensors: Mapping[str, Tensor], inventory: Inventory, facts: Mapping[str, str]) -> tuple[bool, str]:
    """Whether the file says so, and what was seen."""
    for name, value in reading.declared:
        if name in facts and value in (None, facts[name]):
            return True, f"its {name} is {facts[name][:LONGEST]}"
    if reading.spread is None:
        found = bool(reading.key) and reading.key in inventory.tensors
        return found, f"the file has {reading.key}" if found else ""
    if reading.key not in tensors:
        return False, ""
    spread = float(tensors[reading.key].float().std())
    than = "more" if spread > reading.spread else "no more"
    return spread > reading.spread, f"the numbers of {reading.key} spread by {spread:.3f}, {than} than {reading.spread}"


def take(family: Family, reading: Reading, inventory: Inventory, facts: Mapping[str, str]) -> Meaning:
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
    if reading.moments is None:
        return Meaning(family=found)
    said = reading.moments[0] not in inventory.tensors and MOMENTS[0] in facts
    parts = [
        parse_numbers(facts.get(name, ""), f"{inventory.source}: {name}") if said else read_numbers(inventory, name)
        for name in (MOMENTS if said else reading.moments)
    ]
    return Meaning(family=found, normalisation=to_normalisation(parts[0], parts[1], family.space.latent_channels, inventory.source))


def read_levels(process: Process, names: tuple[str, str], inventory: Inventory) -> Process:
    """The process between the noise levels that the file gives."""
    assert isinstance(process, Edm)
    low, high = (
        read_numbers(inventory, name) if name in inventory.tensors else (own,) for name, own in zip(names, process.ends, strict=True)
    )
    if len(low) != 1 or len(high) != 1:
        raise CheckpointError(f"{inventory.source}: {' and '.join(names)} are {low} and {high}; expected one number each", hint=DAMAGED)
    try:
        return replace(process, lowest=low[0], highest=high[0])
    except ConfigError as error:
        raise CheckpointError(f"{inventory.source}: {error}", hint=DAMAGED) from None


def to_normalisation(mean: tuple[float, ...], std: tuple[float, ...], channels: int, source: str) -> Normalisation:
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        what = f"{source}: the mean of its latents is {mean}, their standard deviation {std}"
        raise CheckpointError(f"{what}; expected {channels} numbers each, the second above 0", hint=DAMAGED)
    return Normalisation.from_moments(mean=mean, std=std)


def parse_numbers(text: str, source: str) -> tuple[float, ...]:
    """ "[1.0, 2.5]" as numbers. Raises CheckpointError."""
    try:
        found = tuple(float(part) for part in text.strip("[]").split(","))
    except ValueError:
        found = ()
    if not found or not all(map(isfinite, found)):
        raise CheckpointError(f"{source} is {text[:LONGEST]!r}; expected a list of finite numbers", hint=DAMAGED)
    return found


def read_numbers(inventory: Inventory, name: str) -> tuple[float, ...]:
    """All numbers of a small tensor. Raises CheckpointError unless it is there and they are finite."""
    found = inventory.tensors.get(name)
    if found is None or prod(found.shape) > FEW:
        what = "lacks" if found is None else f"has {prod(found.shape)} numbers in"
        raise CheckpointError(f"{inventory.source} {what} {name}, which goes with what else it has", hint=DAMAGED)
    tensor = next(iter(read_tensors(inventory.keep({name: found}, {})).values())).double().flatten()
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{inventory.source}: {name} is {tensor.tolist()}; expected finite numbers", hint=DAMAGED)
    return tuple(tensor.tolist())


def leave_marks(family: Family, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what only says how the others are meant: a file of a denoiser alone has it among them."""
    said = [reading for reading in family.readings if reading.spread is None]
    marks = {name for one in said for name in (one.key, *(one.levels or ()), *(one.moments or ()))}
    return {name: tensor for name, tensor in tensors.items() if name not in marks}
