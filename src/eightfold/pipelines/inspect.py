"""What a file is, from its header alone: a latent file, weights or a picture."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, cast

from ..checkpoints.components import find_adapter
from ..checkpoints.entries import Inventory
from ..checkpoints.folder import SUFFIXES
from ..checkpoints.formats import LONGEST_HEADER
from ..checkpoints.identity import LATENT as MARK
from ..checkpoints.identity import identify_inventory
from ..checkpoints.inventory import read_inventory
from ..core.errors import ImageError
from .metadata import READERS, from_texts
from .provenance import to_facts

OWN = "eightfold."
LATENT = ("space", "width", "height", "padding", "reading", "seed", "encoder", "decoder", "dtype", "reason", "notes", "origin", "versions")


def read_info(path: str | Path) -> dict[str, Any]:
    """The facts of one file, in the order to show them. Raises an EightfoldError that says why where it is none of the three."""
    path = Path(path)
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a name is too long
        what = "is not a file" if os.path.lexists(path) else "is not there"
        raise ImageError(f"{path} {what}", hint="info takes one image, latent or weight file")
    if path.suffix.lower() in SUFFIXES or is_safetensors(path):
        inventory = read_inventory(path)
        facts = to_latent_facts(inventory) if MARK in inventory.metadata else to_weight_facts(inventory)
    else:
        facts = read_picture_facts(path)
    return {"file": str(path), "bytes": path.stat().st_size, **facts}


def is_safetensors(path: Path) -> bool:
    """Whether the file begins like one: the length of the header in 8 bytes, then the header's brace."""
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", hint="check your rights to read it") from None
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST_HEADER


def to_latent_facts(inventory: Inventory) -> dict[str, Any]:
    latent = inventory.tensors.get("latent")
    facts: dict[str, Any] = {"kind": "latent", "shape": list(latent.shape) if latent else None}
    return facts | {name: inventory.metadata[OWN + name] for name in LATENT if OWN + name in inventory.metadata}


def to_weight_facts(inventory: Inventory) -> dict[str, Any]:
    """Counts, types, and what each component looks like."""
    adapter = find_adapter(inventory)
    identities = () if adapter else identify_inventory(inventory)
    known = [name for one in identities for name in (one.ties or (one.family or one.space,)) if name]
    return {
        "kind": "weights",
        "format": inventory.format,
        "tensors": len(inventory.tensors),
        "parameters": inventory.parameters,
        "dtypes": dict(Counter(entry.dtype for entry in inventory.tensors.values())),
        "parts": {one.component: one.parameters for one in identities},
        "looks like": [adapter] if adapter else list(dict.fromkeys(known)) or "no known space or family",
        "metadata": dict(inventory.metadata),
    }


def read_picture_facts(path: Path) -> dict[str, Any]:
    from ..codec.imageread import open_image
    from ..codec.pixels import read_metadata

    with open_image(path) as image:
        facts: dict[str, Any] = {"kind": "picture", "format": image.format, "mode": image.mode}
        facts |= {"width": image.width, "height": image.height}
    metadata = read_metadata(path)
    record = to_record(metadata.get("eightfold", ""))
    if record:
        metadata = {name: text for name, text in metadata.items() if name not in ("eightfold", "parameters")}
        facts["made with"] = record
    elif any(name in READERS for name in metadata):
        try:
            facts["made with"] = to_facts(from_texts(metadata))
        except ImageError as error:
            facts["made with"] = f"not known: {error}"
    return facts | ({"metadata": metadata} if metadata else {})


def to_record(text: str) -> dict[str, Any]:
    """What we wrote into a picture; empty for anything else that somebody may have put there."""
    try:
        record = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], record) if isinstance(record, dict) else {}
