"""A name for weights that depends on nothing but the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256

from torch import Tensor

from .save import to_dtype_name, to_stored


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, as 64 hexadecimal digits, over names in sorted order, types, shapes and stored bytes; the order given does not matter."""
    digest = sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, to_dtype_name(name, tensor), list(tensor.shape)]).encode() + b"\n")
        digest.update(to_stored(tensor))
    return digest.hexdigest()
