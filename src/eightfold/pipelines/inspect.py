"""What a file is, from its header alone: a latent file, weights or a picture."""

from __future__ import annotations

import json
import os
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any, cast

from ..checkpoints.formats import LONGEST_HEADER, PARTS, TensorInfo, read_safetensors_header, take_part
from ..checkpoints.identify import find_claimants
from ..core.errors import ImageError
from ..families.catalog import FAMILIES
from ..families.spaces import SPACES

WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")  # of these only the first is read; the others are named in the error
OWN = "eightfold."
LATENT = ("space", "width", "height", "padding", "reading", "seed", "encoder", "decoder", "versions")


def read_info(path: str | Path) -> dict[str, Any]:
    """The facts of one file, in the order to show them. Raises an EightfoldError that says why where it is none of the three."""
    path = Path(path)
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a name is too long
        what = "is not a file" if os.path.lexists(path) else "is not there"
        raise ImageError(f"{path} {what}", hint="info takes one image, latent or weight file")
    if path.suffix.lower() in WEIGHTS or is_safetensors(path):
        tensors, metadata = read_safetensors_header(path)
        facts = to_latent_facts(tensors, metadata) if f"{OWN}latent" in metadata else to_weight_facts(tensors, metadata)
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


def to_latent_facts(tensors: dict[str, TensorInfo], metadata: dict[str, str]) -> dict[str, Any]:
    latent = tensors.get("latent")
    facts: dict[str, Any] = {"kind": "latent", "shape": list(latent.shape) if latent else None}
    return facts | {name: metadata[OWN + name] for name in LATENT if OWN + name in metadata}


def to_weight_facts(tensors: dict[str, TensorInfo], metadata: dict[str, str]) -> dict[str, Any]:
    """Spaces and families are claimed by tensors under any of the prefixes that the file uses."""
    shapes = {name: info.shape for name, info in tensors.items()}
    parts = {prefix: take_part(shapes, prefix) for prefix in find_prefixes(tensors)}
    claimed = {one.name: None for known in (SPACES, FAMILIES) for part in parts.values() for one in find_claimants(part, known)}
    return {
        "kind": "weights",
        "tensors": len(tensors),
        "parameters": sum(prod(shape) for shape in shapes.values()),
        "dtypes": dict(Counter(info.dtype for info in tensors.values())),
        "parts": {prefix.rstrip(".") or "all": sum(prod(shape) for shape in part.values()) for prefix, part in parts.items()},
        "looks like": list(claimed) or "no known space or family",
        "metadata": metadata,
    }


def find_prefixes(tensors: dict[str, TensorInfo]) -> list[str]:
    parts = [part for part in PARTS if any(name.startswith(part) for name in tensors)]
    return parts or [""]


def read_picture_facts(path: Path) -> dict[str, Any]:
    from ..codec.imageread import open_image
    from ..codec.pixels import read_metadata

    with open_image(path) as image:
        facts: dict[str, Any] = {"kind": "picture", "format": image.format, "mode": image.mode}
        facts |= {"width": image.width, "height": image.height}
    metadata = read_metadata(path)
    record = to_record(metadata.get("eightfold", ""))
    if record:
        del metadata["eightfold"]
        facts["made with"] = record
    return facts | ({"metadata": metadata} if metadata else {})


def to_record(text: str) -> dict[str, Any]:
    """What we wrote into a picture; empty for anything else that somebody may have put there."""
    try:
        record = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], record) if isinstance(record, dict) else {}
