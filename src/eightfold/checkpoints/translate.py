"""A weight file of any known format as a safetensors file: another published layout, other number types, one component of several.

No tensor is read before it is written, and then one after the other. What is kept of the metadata: all that the weight file itself has;
of a diffusers folder's config.json only the scaling factor, by which alone sd and sdxl are told apart. A tie stays one; only the space of
an autoencoder that the denoiser beside it settled is written down, for outside of that file nothing else would tell it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..core.errors import AmbiguousCheckpoint, CheckpointError, OutputError, RequestError, UnknownCheckpoint, UnknownName
from ..core.progress import Progress
from ..specs.keymap import Keymap
from ..specs.space import DType
from .convert import PENDING
from .entries import Entry, Inventory
from .folder import CONFIG
from .formats import show
from .identify import INFO
from .identity import DECLARED, LATENT, Claimed, Identity, claim_all, claim_components, declare, read_scale, to_identity
from .inventory import read_inventory
from .load import map_file, to_dtype, to_tensor
from .patterns import parse_pattern
from .rename import rename, rename_back, rename_early_attention
from .rules import covers
from .save import Pending, write_pending

Layout = Literal["diffusers", "original"]
TRAINING = "training"  # what only the trainer needs is no reason to ask which network is meant


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What will be written. `identity` is that of the source, `layout` that of the result; `left_out` says what is lost, and why."""

    source: Inventory
    identity: Identity
    layout: str | None
    tensors: Mapping[str, Pending]
    metadata: Mapping[str, str]
    left_out: tuple[str, ...] = ()


def read_translation(
    path: str | Path, *, component: str | None = None, layout: Layout | None = None, dtype: DType | None = None
) -> Translation:
    """Read the headers and work out the names, types and shapes of the result; no tensor is read.

    Without `layout` names stay, but for the prefix of a component that is taken out of a larger file; without `dtype` types stay, and
    quantised tensors become float32. Raises CheckpointError: a file that cannot be read, several components and none chosen, a layout for
    what is not known (UnknownCheckpoint), tensors that do not fit it (WeightMismatch); UnknownName for a component that is not there.
    """
    inventory = read_inventory(path)
    if LATENT in inventory.metadata:
        raise CheckpointError(f"{path} is a latent, not weights", hint="`eightfold decode` makes a picture of it")
    name, claimed = choose_component(inventory, component)
    identity = to_identity(name, claimed.part, claimed.claims)
    whole = component is None and layout is None and inventory.format != "folder"
    part = inventory if whole else claimed.part
    tensors = {key: read_later(key, entry) for key, entry in part.tensors.items()}
    if dtype is not None:
        tensors = {key: cast_later(key, pending, getattr(torch, dtype)) for key, pending in tensors.items()}
    left_out: tuple[str, ...] = ()
    if layout is not None:
        keymap = find_keymap(claimed, str(path))
        left_out = list_dropped(tensors, keymap) if layout == "diffusers" else ()
        tensors = to_layout(tensors, keymap, identity, layout)
    metadata = to_metadata(part) | to_settled(claimed, identity)
    return Translation(
        source=inventory, identity=identity, layout=layout or identity.layout, tensors=tensors, metadata=metadata, left_out=left_out
    )


def write_translation(translation: Translation, out: str | Path, *, overwrite: bool = False) -> Iterator[Progress]:
    """Write it, atomically; without the last event there is no file.

    Raises OutputError, CheckpointError where the source has changed, RequestError for a value that the type cannot hold.
    """
    out = Path(out)
    if any(out.exists() and out.samefile(file) for file in translation.source.files):
        raise OutputError(f"{out} is what is to be converted", hint="name another file; remove the old one when the new one is right")
    yield from write_pending(out, translation.tensors, translation.metadata, overwrite=overwrite)


def choose_component(inventory: Inventory, wanted: str | None) -> tuple[str, Claimed]:
    """The wanted component, or the only one. The one without a prefix goes by what it is: autoencoder, denoiser, or unknown."""
    found = claim_components(inventory)
    named: dict[str, str] = {}
    for name, claimed in found.items():
        public = to_identity(name, claimed.part, claimed.claims).component
        if public in named:
            raise CheckpointError(f"{inventory.source} has two networks for {public}", hint="keep one of them in the file")
        named[public] = name
    if wanted is not None and wanted not in named:
        raise UnknownName("component", wanted, named)
    networks = [public for public in named if public != TRAINING] or [*named]
    if wanted is None and len(networks) != 1:
        held = ", ".join(show(public) for public in networks) or "nothing"
        raise CheckpointError(f"{inventory.source} has {len(networks)} components: {held}", hint="name one of them: --component NAME")
    name = named[wanted or networks[0]]
    return name, found[name]


def find_keymap(claimed: Claimed, source: str) -> Keymap:
    """The one way between the layouts of what the component may be: kinds that share their tensors share it."""
    if not claimed.claims:
        what = f"{source}: nobody knows whose weights these are, so they have no other layout"
        raise UnknownCheckpoint(what, hint=f"leave --layout out to keep the names; {INFO}")
    kinds = {f"{claim.kind.component} of {claim.kind.name}": claim.kind.keymap for claim in claimed.claims}
    keymaps = {keymap for keymap in kinds.values() if keymap is not None and keymap.rows}
    if len(keymaps) > 1:
        raise AmbiguousCheckpoint(f"{source} may be the {' or the '.join(kinds)}, which are renamed differently", hint=INFO)
    if not keymaps:
        raise RequestError(f"{source} is the {' or the '.join(kinds)}, which has one layout only", hint="leave --layout out")
    return keymaps.pop()


def to_layout(tensors: Mapping[str, Pending], keymap: Keymap, identity: Identity, layout: Layout) -> dict[str, Pending]:
    """The tensors as that layout has them, in the spelling that its publisher uses now."""
    if identity.component == "autoencoder":
        tensors = rename_early_attention(tensors)
    if layout == identity.layout == "original":
        for spelling in keymap.spellings:
            tensors = rename(tensors, spelling, PENDING)
        return dict(tensors)
    if layout == identity.layout:
        return dict(tensors)
    return rename(tensors, keymap, PENDING) if layout == "diffusers" else rename_back(tensors, keymap, PENDING)


def list_dropped(tensors: Mapping[str, Pending], keymap: Keymap) -> tuple[str, ...]:
    patterns = [(parse_pattern(one.before), one.reason) for one in keymap.dropped]
    return tuple(f"{name}: {reason}" for pattern, reason in patterns for name in tensors if covers(pattern, name))


def to_settled(claimed: Claimed, identity: Identity) -> dict[str, str]:
    """The space that an autoencoder has by its company, and would not have alone."""
    key = DECLARED["autoencoder"]
    alone = declare(claim_all(claimed.part.shapes, "autoencoder"), claimed.part) if identity.component == "autoencoder" else []
    return {key: identity.space} if identity.space is not None and len(alone) > 1 else {}


def to_metadata(part: Inventory) -> dict[str, str]:
    metadata = dict(part.metadata)
    if part.format == "folder":
        scale = read_scale(metadata)
        metadata.pop(CONFIG, None)
        metadata |= {} if scale is None else {CONFIG: json.dumps({"scaling_factor": scale})}
    return metadata


def read_later(name: str, entry: Entry) -> Pending:
    """The file is mapped for each tensor anew, so that its pages are given back before the next one is read."""
    return Pending(to_dtype(name, entry), entry.shape, lambda: to_tensor(name, entry, map_file(entry.file)))


def cast_later(name: str, pending: Pending, dtype: torch.dtype) -> Pending:
    """In the other type; whole numbers stay what they are."""
    if not pending.dtype.is_floating_point or pending.dtype == dtype:
        return pending
    return Pending(dtype, pending.shape, lambda: cast(name, pending.read(), dtype))


def cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Raises RequestError where a finite value would become infinite."""
    narrow = tensor.to(dtype)
    if torch.finfo(tensor.dtype).max <= torch.finfo(dtype).max or not bool(narrow.isinf().any()):
        return narrow
    largest = tensor[tensor.isfinite()].abs().max().item() if bool(tensor.isfinite().any()) else 0.0
    if not bool((narrow.isinf() & tensor.isfinite()).any()):  # what was infinite stays so
        return narrow
    word, most = str(dtype).removeprefix("torch."), torch.finfo(dtype).max
    wider = "--dtype float32 holds it" if dtype is torch.bfloat16 else "--dtype bfloat16 or float32 holds it"
    raise RequestError(f"tensor {show(name)} reaches {largest:.7g}, and {word} ends at {most:.7g}", hint=wider)
