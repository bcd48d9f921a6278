"""Autoencoders that have a name: published under it, or remembered by fingerprint and known again in another dtype by kinship."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..checkpoints.identity import Identity
from ..checkpoints.kinship import is_kin
from ..checkpoints.known import Known, read_known, remember
from ..checkpoints.match import list_spaces
from ..checkpoints.published import find_published
from ..codec.codec import Codec
from ..codec.load import load_codec
from ..core.errors import CheckpointError, RequestError
from ..families.published import PUBLISHED_WEIGHTS
from .match import sketch_codec


class Sighting(NamedTuple):
    """The name that an autoencoder has, and by what it was known: "file", "fingerprint" or "kinship". `space`: of a published one."""

    name: str
    by: str
    space: str = ""


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
    """The name under which this autoencoder was published, or is remembered; its weights are read only where one of as many numbers is."""
    if identity.component != "autoencoder" or not list_spaces(identity):
        return None
    alike = [one for one in read_known() if one.parameters == identity.parameters]
    published = find_published(path, identity)
    named = None if published is None else Sighting(published.name, published.by, published.space)
    if not alike:
        return named
    codec = load_any(path, identity)
    own = find_weights(codec, alike)
    if own is not None or named is not None:
        return own if own is not None and not own.space else named
    sketch = sketch_codec(codec)
    return next((Sighting(one.name, "kinship") for one in alike if is_kin(to_pairs(one.sketch), sketch)), None)


def find_weights(codec: Codec, remembered: Iterable[Known]) -> Sighting | None:
    """By the fingerprints of both halves."""
    halves = codec.encoder_fingerprint, codec.decoder_fingerprint
    own = next((Sighting(one.name, "fingerprint") for one in remembered if (one.encoder, one.decoder) == halves), None)
    ours = (Sighting(one.name, "fingerprint", one.space) for one in PUBLISHED_WEIGHTS if (one.encoder, one.decoder) == halves)
    return own or next(ours, None)


def name_codec(codec: Codec) -> str | None:
    """The name of an autoencoder that is loaded; None for none, or where what was remembered cannot be read."""
    try:
        sighting = find_weights(codec, read_known())
    except CheckpointError:
        return None
    return sighting and sighting.name


def to_pairs(sketch: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """JSON keeps pairs as lists."""
    return {name: (values[0], values[1]) for name, values in sketch.items()}
