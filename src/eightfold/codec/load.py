"""Codecs from files: whose autoencoder it is, its weights under the network's own names, and the dtype it can run in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..autoencoders.build import Network, build_autoencoder, fold_weights
from ..checkpoints.candidates import WEIGHTLESS, Candidate, find_space, identify_autoencoder, to_candidate
from ..checkpoints.components import WHOLE, split_components
from ..checkpoints.convert import to_diffusers
from ..checkpoints.fingerprint import fingerprint
from ..checkpoints.inventory import read_inventory
from ..checkpoints.load import load_module, read_tensors
from ..checkpoints.rename import rename_early_attention
from ..core.device import Placement, choose_placement, name_dtype, to_half, to_safe
from ..core.errors import SpaceMismatch, UnknownCheckpoint
from ..specs.space import Space
from .codec import Codec
from .normalisation import find_normalisation

ENCODER, DECODER = ("encoder.", "quant_conv."), ("decoder.", "post_quant_conv.")


def load_codec(path: str | Path, *, placement: Placement | None = None, space: str | None = None) -> Codec:
    """The autoencoder in a weight file or folder, alone or inside a whole model; "pixels" is the one without weights.

    Its space is read off its tensors and its metadata. Where several spaces share the tensors, `space` says which it is; a `space` that
    it cannot be raises SpaceMismatch. Raises CheckpointError: a broken file, no known space or more than one, tensors that do not fit.
    """
    if str(path) in WEIGHTLESS:
        found = WEIGHTLESS[str(path)]
        if space not in (None, found.name):
            what = f"{found.name} is the space of images themselves, expected space {find_space(str(space)).name}"
            raise SpaceMismatch(what, hint=f"name a {space} autoencoder")
        return build_codec({}, {}, space=found, source=str(path), placement=placement)
    parts = split_components(read_inventory(path))
    part = parts.get("autoencoder", parts.get(WHOLE))
    if part is None:
        held = ", ".join(name for name in parts if name)
        raise UnknownCheckpoint(f"{path} holds no autoencoder; it has: {held or 'nothing'}", hint="name the file that has the VAE")
    shapes = rename_early_attention(part.shapes)
    found = identify_autoencoder(shapes, source=str(path), declared=part.metadata.get("eightfold.space"), space=space)
    tensors = rename_early_attention(read_tensors(part))
    if found.keymap is not None:
        tensors = to_diffusers(tensors, found.keymap)
    return build_from(found, tensors, part.metadata, source=str(path), placement=placement)


def build_codec(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, space: Space, source: str, placement: Placement | None = None
) -> Codec:
    """A codec from weights of the space's own autoencoder in our layout, and the metadata of the file they came in."""
    return build_from(to_candidate(space), tensors, metadata, source=source, placement=placement)


def build_from(
    candidate: Candidate, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, source: str, placement: Placement | None
) -> Codec:
    asked = placement or choose_placement("cpu")
    space = candidate.space
    where = f"an autoencoder of space {space.name}"
    asked = to_half(asked, candidate.dtypes, where)
    place = to_safe(asked, candidate.dtypes, where)
    folded = fold_weights(candidate.autoencoder, tensors)

    @cache
    def build(dtype: torch.dtype) -> Network:
        return load_module(lambda: build_autoencoder(candidate.autoencoder), folded, source=source, device=place.device, dtype=dtype)

    instead = f"{name_dtype(asked.dtype)} overflows in space {space.name}: run in {name_dtype(place.dtype)}"
    return Codec(
        network=build(place.dtype),
        space=space,
        normalisation=find_normalisation(metadata, tensors, space, source),
        encoder_fingerprint=name_half(tensors, ENCODER),
        decoder_fingerprint=name_half(tensors, DECODER),
        source=source,
        device=place.device,
        dtype=place.dtype,
        reason=place.reason,
        notes=() if place.dtype == asked.dtype else (instead,),
        speaks=candidate.speaks,
        rebuild=build if place.dtype != torch.float32 else None,
    )


def name_half(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> str:
    """The fingerprint of an encoder or decoder; nothing where the file has the other half alone."""
    half = {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}
    return fingerprint(half) if half or not tensors else ""
