"""CLIP text towers out of whatever holds them: all-in-one files, folders of diffusers, files of one tower, in every published layout."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from ..core.errors import CheckpointError, WeightMismatch
from ..families.keymaps.catalog import TEXT_KEYMAPS
from ..specs.keymap import Keymap
from ..specs.text import ClipConfig, ClipReading, ClipText
from ..text.clip import ClipTower
from .components import WHOLE, split_components
from .convert import to_diffusers
from .entries import Inventory
from .load import load_module, read_tensors
from .lookup import find_tensor
from .rename import to_names

EMBEDDING, PROJECTION = "text_model.embeddings.token_embedding.weight", "text_projection.weight"
LAYER = re.compile(r"text_model\.encoder\.layers\.([0-9]{1,6})\.")
LOOKED = (
    "it is looked for under cond_stage_model., conditioner.embedders.N., text_encoders.NAME., in text_encoder folders and without a prefix"
)


@dataclass(frozen=True, kw_only=True)
class FoundTower:
    """A tower in a file: its tensors, by their names there, and the way from its layout to ours. `layers` are counted by the file."""

    part: Inventory
    keymap: Keymap
    width: int
    layers: int


def find_towers(*inventories: Inventory) -> tuple[FoundTower, ...]:
    """Every CLIP text tower in these files, in order, from their headers alone. Raises CheckpointError for an adapter."""
    parts = [part for one in inventories for name, part in split_components(one).items() if name == WHOLE or name.startswith("text")]
    return tuple(tower for part in parts if (tower := find_tower(part)) is not None)


def find_tower(part: Inventory) -> FoundTower | None:
    """The tower that the tensors of one component are, if they are one."""
    shapes = part.shapes
    for keymap in TEXT_KEYMAPS:
        found = find_tensor(shapes, EMBEDDING, keymap)
        if found is not None and len(found.shape) == 2:
            names = to_names(shapes, keymap)
            return FoundTower(part=part, keymap=keymap, width=found.shape[1], layers=count_layers(names))
    return None


def count_layers(names: Iterable[str]) -> int:
    return 1 + max((int(found[1]) for name in names if (found := LAYER.match(name))), default=-1)


def choose_towers(found: Iterable[FoundTower], text: ClipText, source: str) -> tuple[FoundTower, ...]:
    """One for each of the family's readings, by width. Raises CheckpointError, naming what is missing and what there is instead."""
    left, chosen = list(found), []
    there = ", ".join(f"{tower.width} wide, {tower.layers} layers" for tower in left) or "no text tower"
    for reading in text.readings:
        fitting = [tower for tower in left if tower.width == reading.tower.width]
        if not fitting:
            raise CheckpointError(
                f"{source} lacks the text tower {reading.tower.name} ({reading.tower.width} wide); it has {there}",
                hint=f"give a file that holds it; {LOOKED}",
            )
        chosen.append(fitting[0])
        left.remove(fitting[0])
    return tuple(chosen)


def load_tower(
    found: FoundTower, reading: ClipReading, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ClipTower:
    """The tower with the file's tensors, as views of the mapped file where the dtype stays.

    A file may have fewer layers than were trained, down to those that are read (diffusers leaves out the last of ViT-H). Raises
    WeightMismatch for fewer, or for tensors that do not fit.
    """
    config = to_config(found, reading)
    tensors = to_diffusers(read_tensors(found.part), found.keymap)
    if config.projection is None:
        tensors.pop(PROJECTION, None)  # files have it also where no model reads it
    return load_module(lambda: ClipTower(config), tensors, source=found.part.source, device=device, dtype=dtype)


def to_config(found: FoundTower, reading: ClipReading) -> ClipConfig:
    config = reading.tower
    wanted = config.layers if reading.pooled else reading.depth
    if not wanted <= found.layers <= config.layers:
        what = f"{found.part.source}: the text tower {config.name} has {found.layers} layers"
        raise WeightMismatch(f"{what}, expected {wanted} to {config.layers}", hint="`eightfold info FILE` lists what is in it")
    return replace(config, layers=found.layers)


def read_towers(
    inventories: Iterable[Inventory], text: ClipText, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[ClipTower, ...]:
    """All towers of a family out of these files, the first ones first. Raises CheckpointError."""
    inventories = tuple(inventories)
    source = " and ".join(one.source for one in inventories)
    chosen = choose_towers(find_towers(*inventories), text, source)
    return tuple(load_tower(found, reading, device=device, dtype=dtype) for found, reading in zip(chosen, text.readings, strict=True))
