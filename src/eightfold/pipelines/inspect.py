"""What a file is, from its header alone: a latent file, weights or a picture."""

from __future__ import annotations

import json
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from ..checkpoints.formats import TensorInfo, read_safetensors_header
from ..checkpoints.identify import find_claimants
from ..core.errors import ImageError
from ..families.catalog import FAMILIES
from ..families.spaces import SPACES

SAFETENSORS_START = b"{"  # the ninth byte of a safetensors file opens its JSON header
OWN = "eightfold."


def read_info(path: str | Path) -> dict[str, Any]:
    """The facts of one file, in the order to show them. Raises an EightfoldError that says why where it is none of the three."""
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path} is not there" if not path.exists() else f"{path} is a folder", hint="info takes one image, latent or weight file")
    with open(path, "rb") as file:
        start = file.read(9)
    if path.suffix.lower() == ".safetensors" or start[8:9] == SAFETENSORS_START:
        tensors, metadata = read_safetensors_header(path)
        facts = to_latent_facts(tensors, metadata) if f"{OWN}latent" in metadata else to_weight_facts(tensors, metadata)
    else:
        facts = read_picture_facts(path)
    return {"file": str(path), "bytes": path.stat().st_size, **facts}


def to_latent_facts(tensors: dict[str, TensorInfo], metadata: dict[str, str]) -> dict[str, Any]:
    own = {name.removeprefix(OWN): value for name, value in metadata.items() if name.startswith(OWN)}
    latent = tensors.get("latent")
    return {"kind": "latent", "shape": list(latent.shape) if latent else None, **own}


def to_weight_facts(tensors: dict[str, TensorInfo], metadata: dict[str, str]) -> dict[str, Any]:
    """Spaces and families are claimed by tensors under any of the prefixes that the file uses."""
    inventories = [{name.removeprefix(prefix): info.shape for name, info in tensors.items() if name.startswith(prefix)} for prefix in find_prefixes(tensors)]
    claimed = {one.name: None for known in (SPACES, FAMILIES) for inventory in inventories for one in find_claimants(inventory, known)}
    return {
        "kind": "weights",
        "tensors": len(tensors),
        "parameters": sum(prod(info.shape) for info in tensors.values()),
        "dtypes": dict(Counter(info.dtype for info in tensors.values())),
        "parts": {prefix.rstrip(".") or "all": sum(prod(info.shape) for name, info in tensors.items() if name.startswith(prefix)) for prefix in find_prefixes(tensors)},
        "looks like": list(claimed) or "no known space or family",
        "metadata": metadata,
    }


def find_prefixes(tensors: dict[str, TensorInfo]) -> list[str]:
    parts = [part for part in ("autoencoder.", "denoiser.", "text.") if any(name.startswith(part) for name in tensors)]
    return parts or [""]


def read_picture_facts(path: Path) -> dict[str, Any]:
    from ..codec.imageread import open_image
    from ..codec.pixels import read_metadata

    with open_image(path) as image:
        facts: dict[str, Any] = {"kind": "picture", "format": image.format, "width": image.width, "height": image.height, "mode": image.mode}
    metadata = read_metadata(path)
    if "eightfold" in metadata:
        facts |= json.loads(metadata.pop("eightfold"))
    return facts | ({"metadata": metadata} if metadata else {})
