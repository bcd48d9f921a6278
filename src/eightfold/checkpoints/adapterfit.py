"""Which layers of a model an adapter changes: the names that trainers give to layers, and those of our networks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from torch import nn

from ..core.errors import CheckpointError
from ..families.catalog import FAMILIES
from ..nn.lora import list_layers
from ..nn.lowrank import Change, Decomposed, Layer
from ..specs.keymap import Keymap
from .adapters import Adapter
from .formats import show
from .lookup import translate

# How names begin, and the network that is meant: -1 the denoiser, from 0 the text encoders, None where the beginning does not say
BEGINNINGS: tuple[tuple[str, int | None], ...] = (
    (r"lora_unet[._]|unet\.|(?:model\.)?diffusion_model\.", -1),
    (r"lora_te1?[._]|text_encoder\.|(?:text_encoders\.)?clip_[lh]\.(?:transformer\.)?", 0),
    (r"lora_te2[._]|text_encoder_2\.|(?:text_encoders\.)?clip_g\.(?:transformer\.)?", 1),
    (r"lycoris_|", None),
)
WRAPPERS = re.compile(r"^(?:base_model\.model\.)+")
CROSS = "attn2_to_k"  # its columns are the width of the text that the denoiser was made for
MOST = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """What to attach to the denoiser and to each text encoder, by the names of their layers. `unmatched`: tensors of the file left over."""

    denoiser: Mapping[str, Change]
    texts: tuple[Mapping[str, Change], ...]
    unmatched: tuple[str, ...]


def fit_adapter(adapter: Adapter, denoiser: nn.Module, texts: Sequence[nn.Module] = (), keymap: Keymap | None = None) -> Fit:
    """Find the layer behind every name of the adapter.

    `texts` are CLIP's text models of transformers, in the model's order; `keymap` leads from the denoiser's original layout to ours.
    What is meant for a network or a layer that the model has not is left over and listed. Raises CheckpointError where a layer is
    there with another size, or the denoiser has none of its layers: the adapter was made for another family.
    """
    networks = [*texts, denoiser]  # so that -1 is the denoiser
    layers = [dict(list_layers(network)) for network in networks]
    spellings = [*(spell_text(names) for names in layers[:-1]), spell_denoiser(layers[-1], keymap)]
    found: list[dict[str, Change]] = [{} for _ in networks]
    unmatched = list(adapter.rest)
    for layer, change in adapter.changes.items():
        place, rest = split_beginning(layer)
        possible = [-1, *range(len(texts))] if place is None else [place] if place < len(texts) else []
        hits = [(one, spellings[one][rest]) for one in possible if rest in spellings[one]]
        fitting = [(one, name) for one, name in hits if change.fits(layers[one][name])]
        if hits and not fitting:
            refuse_family(adapter, layer, layers[hits[0][0]][hits[0][1]], layers[-1])
        free = [(one, name) for one, name in fitting if name not in found[one]]
        if free:
            found[free[0][0]][free[0][1]] = change
        else:  # no such layer, or the same layer again in another spelling
            unmatched += adapter.names[layer]
    if not any(found) or (not found[-1] and any(split_beginning(layer)[0] == -1 for layer in adapter.changes)):
        refuse_names(adapter)
    return Fit(denoiser=found[-1], texts=tuple(found[:-1]), unmatched=tuple(unmatched))


def split_beginning(layer: str) -> tuple[int | None, str]:
    """The network that a name begins with, and the rest in one spelling: underscores only, nothing of processors and wrappers."""
    begin, place = next((found.group(), place) for pattern, place in BEGINNINGS if (found := re.match(pattern, layer)))
    rest = WRAPPERS.sub("", layer.removeprefix(begin), count=1)
    if not begin and rest != layer:
        return split_beginning(rest)
    return place, to_plain(rest.replace(".processor.", ".")).removeprefix("text_model_")


def to_plain(name: str) -> str:
    return name.replace(".", "_")


def spell_denoiser(layers: Mapping[str, Layer], keymap: Keymap | None) -> dict[str, str]:
    """Every way to write a layer's name, to that name: our layout's, the original layout's, and the short one of attention processors."""
    spelled: dict[str, str] = {}
    for name in layers:
        originals = [place.name.removesuffix(".weight") for place in (translate(f"{name}.weight", keymap) if keymap else ())]
        short = [name.removesuffix(".0")] if name.endswith(".to_out.0") else []
        for one in (*originals, *short, name):
            spelled[to_plain(one)] = name
    return spelled


def spell_text(layers: Mapping[str, Layer]) -> dict[str, str]:
    """The names of transformers, which one version puts under `text_model` and another does not, and those of attention processors."""
    spelled: dict[str, str] = {}
    for name in layers:
        plain = to_plain(name.removeprefix("text_model."))
        early = re.sub(r"self_attn_([qkv]|out)_proj$", r"self_attn_to_\1", plain)
        spelled |= {early: name, plain: name}
    return spelled


def group_names(names: Sequence[str]) -> dict[str, int]:
    """Names that differ in their numbers only, written once with * for these, and how many there are of each."""
    groups: dict[str, int] = {}
    for name in names:
        pattern = re.sub(r"(?<=[._])\d+(?=[._]|$)", "*", name)
        groups[pattern] = groups.get(pattern, 0) + 1
    return groups


def refuse_family(adapter: Adapter, name: str, layer: Layer, own: Mapping[str, Layer]) -> NoReturn:
    """Say whose adapter it looks like, by the width of the text that its attention reads, and what this model has there."""
    changed = {one: count_columns(change) for one, change in adapter.changes.items() if to_plain(one).endswith(CROSS)}
    widths = sorted({*changed.values()})
    here = next((part.weight.shape[1] for one, part in own.items() if to_plain(one).endswith(CROSS)), None)
    hint = "an adapter belongs to the family that it was trained on"
    if len(widths) == 1 and here is not None and widths[0] != here:
        what = f"it looks like one for {name_families(widths[0])}, expected one for {name_families(here)}"
        raise CheckpointError(f"{adapter.source} is an adapter for another model: {what}", hint=hint)
    shape = list(to_shape(adapter.changes[name]))
    what = f"{show(name)} changes a weight of {shape}, expected {[len(layer.weight), layer.weight[0].numel()]}"
    raise CheckpointError(f"{adapter.source} is an adapter for another model: {what}", hint=hint)


def refuse_names(adapter: Adapter) -> NoReturn:
    denoisers = [layer for layer in adapter.changes if split_beginning(layer)[0] == -1] or [*adapter.changes]
    groups = [*group_names(denoisers)]
    named = ", ".join(show(one) for one in groups[:MOST]) + (", ..." if len(groups) > MOST else "")
    what = f"{adapter.source} changes {len(denoisers)} layers, none of which this model has ({named})"
    raise CheckpointError(what, hint="an adapter belongs to the family that it was trained on")


def name_families(width: int) -> str:
    """The families whose denoisers read text of this width: "sd1 (text 768 wide)"."""
    known: list[str] = []
    for family in FAMILIES:
        editions = [one.name for one in family.editions if (one.denoiser or family.denoiser).context == width]
        if editions:
            known.append(family.name if len(editions) == len(family.editions) or "base" in editions else f"{family.name} {editions[0]}")
    return f"{' or '.join(known) or 'an unknown family'} (text {width} wide)"


def to_shape(change: Change) -> tuple[int, int]:
    return change.difference.shape if isinstance(change, Decomposed) else change.shape


def count_columns(change: Change) -> int:
    return to_shape(change)[1]
