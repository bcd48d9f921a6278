"""Low-rank adapters (LoRA and its kin) out of files: what each changes, layer by layer, under the names that the file gives them.

Tensors stay views of the mapped file until they are attached. Which layers of a network are meant: `adapterfit`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..core.errors import CheckpointError, WeightMismatch
from ..nn.lowrank import Change
from .adapterparts import build_change, split_name
from .components import find_adapter
from .entries import Inventory
from .folder import read_json
from .formats import DAMAGED, refuse_twice, show
from .inventory import read_inventory
from .load import read_tensors

FILES = ("adapter_model.safetensors", "adapter_model.bin", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")
CONFIG = "adapter_config.json"  # PEFT's settings, beside its file
SETTINGS = "lora_adapter_metadata"  # the same in the metadata of diffusers' files, each under the name of its network
PARTS = ("unet.", "text_encoder.", "text_encoder_2.")
INFO = "eightfold info FILE"

# What the names of other kinds of adapters end in
OTHERS = (
    (r"\.oft_(blocks|diag)$|\.oft_R\.", "an OFT adapter"),
    (r"\.[ab][12]\.weight$", "a GLoRA adapter"),
    (r"\.on_input$", "an (IA)^3 adapter"),
)
EXPRESSION = re.compile(r"[^\w.-]")


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """`changes` by the file's own name of each layer, `names` the tensors that it was made of, `rest` the tensors that are no change."""

    source: str
    changes: Mapping[str, Change]
    names: Mapping[str, tuple[str, ...]]
    rest: tuple[str, ...]


def read_adapter(path: str | Path) -> Adapter:
    """A LoRA, LoHa or LoKr, each with or without DoRA, in the layouts of kohya, LyCORIS, diffusers and PEFT; a file, or a folder of PEFT.

    Raises CheckpointError for a file that cannot be read or holds nothing of the kind, WeightMismatch for factors that do not fit.
    """
    path = find_file(Path(path))
    inventory = read_inventory(path)
    settings = read_settings(inventory, path)
    tensors = read_tensors(inventory)
    layers: dict[str, dict[str, str]] = {}
    rest: list[str] = []
    for name in inventory.tensors:
        split = split_name(name)
        if split is None:
            rest.append(name)
            continue
        layer, part = split
        parts = layers.setdefault(layer, {})
        if part in parts:
            raise WeightMismatch(f"{show(name)} is a second {part} of its layer, after {show(parts[part])}", hint=DAMAGED)
        parts[part] = name
    changes: dict[str, Change] = {}
    for layer, parts in layers.items():
        alpha, by_root = find_alpha(settings, layer)
        change = build_change(layer, {part: tensors[name] for part, name in parts.items()}, alpha=alpha, by_root=by_root)
        if change is None:
            rest += parts.values()
        else:
            changes[layer] = change
    if not changes:
        refuse_other(inventory)
    return Adapter(source=str(path), changes=changes, names={one: tuple(layers[one].values()) for one in changes}, rest=tuple(rest))


def find_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in FILES if (path / name).is_file()]
    if not found:
        raise CheckpointError(f"{path} is a folder without an adapter in it", hint=f"name the file; known: {', '.join(FILES)}")
    return found[0]


def refuse_other(inventory: Inventory) -> NoReturn:
    """Say what the file is, where its names tell."""
    other = next((kind for pattern, kind in OTHERS for name in inventory.tensors if re.search(pattern, name)), None)
    if other is not None:
        raise CheckpointError(f"{inventory.source} is {other}, which cannot be attached", hint="LoRA, LoHa, LoKr and DoRA can be")
    kind = find_adapter(inventory)
    if kind is not None:
        raise CheckpointError(f"{inventory.source} is {kind}, but has no factors in a layout that is known", hint=f"`{INFO}` lists them")
    raise CheckpointError(f"{inventory.source} is no LoRA: none of its tensors is a low-rank change", hint="`eightfold identify FILE`")


def read_settings(inventory: Inventory, path: Path) -> Mapping[str, Any]:
    """PEFT's settings; empty where there are none. Raises CheckpointError where they cannot be read."""
    said = inventory.metadata.get(SETTINGS)
    if said is None:
        config = path.parent / CONFIG
        return read_json(config) if path.stem == "adapter_model" and config.is_file() else {}
    try:
        settings = json.loads(said, object_pairs_hook=refuse_twice)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata {SETTINGS} are not JSON: {show(error)}", hint=DAMAGED) from None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}: its metadata {SETTINGS} are no table", hint=DAMAGED)
    return settings


def find_alpha(settings: Mapping[str, Any], layer: str) -> tuple[float | None, bool]:
    """What PEFT's settings say of a layer: alpha, or None, and whether the scale is alpha by the root of the rank.

    A pattern there is the end of a layer's name. Raises CheckpointError for one that is more than that.
    """
    prefix = next((part for part in PARTS if layer.startswith(part) and f"{part}lora_alpha" in settings), "")
    alpha = settings.get(f"{prefix}lora_alpha", settings.get(f"{prefix}alpha"))
    patterns = settings.get(f"{prefix}alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise CheckpointError(f"alpha_pattern is {show(patterns)}, expected a table", hint=DAMAGED)
    for pattern, own in patterns.items():
        end = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
        if EXPRESSION.search(end):
            raise CheckpointError(f"alpha_pattern has the expression {show(pattern)}", hint="only names of layers can be read there")
        if f".{layer}".endswith(f".{end}"):
            alpha = own
            break
    if alpha is None:
        return None, False
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise CheckpointError(f"lora_alpha is {show(alpha)}, expected a number", hint=DAMAGED)
    return float(alpha), settings.get(f"{prefix}use_rslora") is True
