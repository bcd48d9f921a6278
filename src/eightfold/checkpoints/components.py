"""Files that hold more than one network: which tensors belong to which, by the beginning of their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..core.errors import CheckpointError
from .entries import Entry, Inventory
from .formats import DAMAGED, show, take_part

WHOLE = ""  # tensors without a known prefix: all of them, in a file with a single network


class Row(NamedTuple):
    """`prefix` is a pattern; what its group finds becomes part of the component's name."""

    prefix: str
    component: str


# The first row that fits counts
ROWS = (
    Row(r"denoiser\.sigmas$", "training"),  # a table of XL's trainer, whose name begins as ours do
    # our own files
    Row(r"autoencoder\.", "autoencoder"),
    Row(r"denoiser\.", "denoiser"),
    Row(r"text\.", "text"),
    # folders of diffusers
    Row(r"vae/", "autoencoder"),
    Row(r"(?:unet|transformer)/", "denoiser"),
    Row(r"controlnet/", "control"),
    Row(r"text_encoder/", "text"),
    Row(r"text_encoder_(\d+)/", "text.{}"),
    # single files of the original trainers and of ComfyUI
    Row(r"(?:first_stage_model\.)?loss\.", "training"),
    Row(r"model_ema\.", "average"),
    Row(r"first_stage_model\.", "autoencoder"),
    Row(r"vae\.", "autoencoder"),
    Row(r"(?:model\.)?diffusion_model\.", "denoiser"),
    Row(r"control_model\.", "control"),
    Row(r"cond_stage_model\.", "text"),
    Row(r"conditioner\.embedders\.(\d+)\.", "text.{}"),
    Row(r"text_encoders\.([^.]+)\.", "text.{}"),
)
FOLDER_ROWS = (*ROWS, Row(r"([^/]+)/", "other.{}"))  # any other component of a folder
MOST_COMPONENTS = 100

# What the names of low-rank adapters contain, and how people call that kind
ADAPTERS = (
    (r"lora_(unet|te\d?|transformer)_|\.lora[._](down|up|A|B|linear_layer)\b|_lora\d?\.(down|up)\.", "a LoRA"),
    (r"\.hada_w[12]_[ab]$", "a LoHa adapter"),
    (r"\.lokr_w[12]", "a LoKr adapter"),
    (r"\.oft_(blocks|diag)|\.oft_R\.", "an OFT adapter"),
)
ADAPTER = re.compile("|".join(f"(?P<kind{number}>{pattern})" for number, (pattern, _) in enumerate(ADAPTERS)))


def split_components(inventory: Inventory) -> dict[str, Inventory]:
    """Component -> its part, by the names inside it: "autoencoder", "denoiser", "control", "text", "text.NAME" where there are several.

    Also "average" and "training" for what only a trainer needs, "other.FOLDER", and "" for tensors without a known prefix.
    Raises CheckpointError for an adapter, which is no model.
    """
    refuse_adapter(inventory)
    rows = FOLDER_ROWS if inventory.format == "folder" else ROWS
    parts: dict[str, dict[str, Entry]] = {}
    prefixes: dict[str, str] = {}
    for name, entry in inventory.tensors.items():
        component, prefix = find_component(name, rows)
        if prefixes.setdefault(component, prefix) != prefix:
            both = f"{show(prefixes[component])} and {show(prefix)}"
            raise CheckpointError(f"{inventory.source} has two networks for {show(component)}: {both}", hint="keep one of them in the file")
        parts.setdefault(component, {})[name.removeprefix(prefix)] = entry
        if len(parts) > MOST_COMPONENTS:
            raise CheckpointError(f"{inventory.source} has more than {MOST_COMPONENTS} networks", hint=DAMAGED)
    return {component: take(inventory, prefixes[component], tensors) for component, tensors in parts.items()}


def find_component(name: str, rows: Sequence[Row] = ROWS) -> tuple[str, str]:
    """The component that a tensor belongs to, and the prefix that says so; the trainer's remains keep their names."""
    for pattern, component in rows:
        found = re.match(pattern, name)
        if found is not None:
            prefix = "" if component == "training" else found.group()
            return component.format(*found.groups()), prefix
    return WHOLE, ""


def take(inventory: Inventory, prefix: str, tensors: dict[str, Entry]) -> Inventory:
    of_part = inventory.format == "folder" and prefix.endswith("/")
    return inventory.keep(tensors, take_part(inventory.metadata, prefix) if of_part else inventory.metadata)


def find_adapter(inventory: Inventory) -> str | None:
    """What kind of adapter the tensors are, "a LoRA" or another; None for anything else."""
    for name in inventory.tensors:
        found = ADAPTER.search(name)
        if found is not None:
            return ADAPTERS[int(next(key for key in ADAPTER.groupindex if found[key]).removeprefix("kind"))][1]
    return None


def refuse_adapter(inventory: Inventory) -> None:
    """Raise CheckpointError where the file holds an adapter in place of a model."""
    kind = find_adapter(inventory)
    if kind is not None:
        raise CheckpointError(f"{inventory.source} is {kind}: a change to a model, not a model", hint="name the model that it was made for")
