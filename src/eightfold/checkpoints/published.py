"""Autoencoders that were published under a name, known again by a whole file or by the weights in it. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from ..families.published import PUBLISHED_FILES, PUBLISHED_WEIGHTS
from ..specs.published import PublishedFile, PublishedWeights
from .components import WHOLE, split_components
from .entries import Entry
from .filehash import hash_file
from .identity import Identity
from .inventory import read_inventory

ENCODER, DECODER = ("encoder.", "quant_conv."), ("decoder.", "post_quant_conv.")


def find_published(path: str | Path, identity: Identity) -> PublishedFile | PublishedWeights | None:
    """What the autoencoder in a file was published as. Nothing is read unless the size of the file, or the count of its numbers, fits."""
    path = Path(path)
    size = path.stat().st_size if path.is_file() else -1
    if any(one.bytes == size for one in PUBLISHED_FILES):
        digest = hash_file(path)
        return next((one for one in PUBLISHED_FILES if one.sha256 == digest), None)
    if all(one.parameters != identity.parameters for one in PUBLISHED_WEIGHTS):
        return None
    parts = split_components(read_inventory(path))
    tensors = parts[name].tensors if (name := next((name for name in ("autoencoder", WHOLE) if name in parts), None)) is not None else {}
    halves = [fingerprint_entries({name: one for name, one in tensors.items() if name.startswith(half)}) for half in (ENCODER, DECODER)]
    return next((one for one in PUBLISHED_WEIGHTS if [one.encoder, one.decoder] == halves), None)


def fingerprint_entries(tensors: Mapping[str, Entry]) -> str:
    """`checkpoints.fingerprint` of tensors that lie in a safetensors file under our names, read from the file itself."""
    digest = sha256()
    for name in sorted(tensors):
        entry = tensors[name]
        digest.update(json.dumps([name, entry.dtype, list(entry.shape)]).encode() + b"\n")
        with entry.file.open("rb") as file:
            file.seek(entry.offset)
            digest.update(file.read(entry.length))
    return digest.hexdigest()
