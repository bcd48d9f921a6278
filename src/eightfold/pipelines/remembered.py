"""Autoencoders that have a name: remembered by fingerprint, and known again in another dtype by kinship."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..checkpoints.identity import Identity
from ..checkpoints.kinship import is_kin
from ..checkpoints.known import Known, read_known, remember
from ..checkpoints.match import list_spaces
from ..codec.codec import Codec
from ..codec.load import load_codec
from ..core.errors import RequestError
from .match import sketch_codec


class Sighting(NamedTuple):
    """The name that an autoencoder has, and by what it was known: "fingerprint" or "kinship"."""

    name: str
    by: str


def load_any(path: str | Path, identity: Identity) -> Codec:
    """The autoencoder, of spaces that share its tensors in the first: its weights do not depend on that. Raises RequestError for none."""
    spaces = list_spaces(identity)
    if identity.component != "autoencoder" or not spaces:
        raise RequestError(f"{path} has no autoencoder of a known space", hint=f"`eightfold identify {path}` lists what it has")
    return load_codec(path, space=spaces[0])


def remember_autoencoder(path: str | Path, identity: Identity, name: str) -> Path:
    """Keep fingerprints, space and sketch of the file's autoencoder under `name`; returns the file they are kept in."""
    codec = load_any(path, identity)
    known = Known(
        name=name,
        space=" or ".join(list_spaces(identity)),
        encoder=codec.encoder_fingerprint,
        decoder=codec.decoder_fingerprint,
        parameters=identity.parameters,
        sketch=sketch_codec(codec),
    )
    return remember(known)


def find_name(path: str | Path, identity: Identity) -> Sighting | None:
    """The name under which this autoencoder is remembered; its weights are read only where one of as many numbers is."""
    alike = [one for one in read_known() if one.parameters == identity.parameters]
    if not alike or identity.component != "autoencoder" or not list_spaces(identity):
        return None
    codec = load_any(path, identity)
    for one in alike:
        if (one.encoder, one.decoder) == (codec.encoder_fingerprint, codec.decoder_fingerprint):
            return Sighting(one.name, "fingerprint")
    sketch = sketch_codec(codec)
    return next((Sighting(one.name, "kinship") for one in alike if is_kin(to_pairs(one.sketch), sketch)), None)


def to_pairs(sketch: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """JSON keeps pairs as lists."""
    return {name: (values[0], values[1]) for name, values in sketch.items()}
