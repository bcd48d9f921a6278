"""What a weight file says it is, component by component: from names, shapes and what its metadata declare, never from its own name.

No tensor is read and torch is not loaded. Kinds that share all their marks are a tie, and stay one unless the file itself settles it:
by what its metadata or its config.json declare, or by the space that the denoiser beside an autoencoder draws in.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import NamedTuple, get_args

from ..families.spaces import SPACES
from ..specs.mark import Mark
from ..specs.space import Normalisation
from .components import WHOLE, split_components
from .entries import Inventory
from .folder import CONFIG
from .identify import fits_shape
from .inventory import read_inventory
from .kinds import KINDS, Component, Kind
from .lookup import Found, find_marks, find_tensor
from .rename import Shape

DECLARED = {"autoencoder": "eightfold.space", "denoiser": "eightfold.family"}
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3", "F8_E5M2": "float8_e5m2"}
LATENT = "eightfold.latent"
KNOWN: tuple[Component, ...] = get_args(Component)
MOST_REASONS = 3


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What one component is. None or empty: not known, or not one thing.

    `ties` are the spaces (of an autoencoder) or families (of anything else) that it may be, where several are left. `layout` is
    "diffusers", "original", or "only" where there is just one. `tower` is the name of a text tower. `evidence` tells what was seen; of
    something unknown, `nearest` tells what came closest and `why_not` what it lacks. `latent_channels` and `downscale` are those of the
    space's raw latent.
    """

    component: str
    family: str | None = None
    space: str | None = None
    tower: str | None = None
    variant: str | None = None
    layout: str | None = None
    dtype: str
    parameters: int
    latent_channels: int | None = None
    downscale: int | None = None
    ties: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    nearest: str | None = None
    why_not: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A kind whose marks are all there, with what was found of them."""

    kind: Kind
    found: tuple[Found, ...]
    evidence: tuple[str, ...] = ()


class Claimed(NamedTuple):
    """A component of a file, under names without its prefix, and what it may be: nothing known, one kind, or a tie."""

    part: Inventory
    claims: tuple[Claim, ...]


def identify_file(path: str | Path) -> tuple[Identity, ...]:
    """What is in a file or folder of any known format, one answer a component. Raises CheckpointError where it cannot be read."""
    return identify_inventory(read_inventory(path))


def identify_inventory(inventory: Inventory) -> tuple[Identity, ...]:
    """What the tensors of a file are. Raises CheckpointError for an adapter, which is no model."""
    if LATENT in inventory.metadata:
        return (to_latent_identity(inventory),)
    return tuple(to_identity(name, claimed.part, claimed.claims) for name, claimed in claim_components(inventory).items())


def claim_components(inventory: Inventory) -> dict[str, Claimed]:
    """Every component by its name ("" without a known prefix) with the kinds that it may be. Raises CheckpointError for an adapter."""
    parts = split_components(inventory)
    claims = {name: declare(claim_all(part.shapes, name), part) for name, part in parts.items()}
    spaces = {claim.kind.space_name for name, some in claims.items() if name != "average" for claim in some if claim.kind.family}
    if len(spaces) == 1:
        settled = next(iter(spaces))
        claims = {name: settle(some, settled) for name, some in claims.items()}
    return {name: Claimed(part, tuple(claims[name])) for name, part in parts.items()}


def to_latent_identity(inventory: Inventory) -> Identity:
    """A latent file says whose it is."""
    said = inventory.metadata.get("eightfold.space")
    space = next((space for space in SPACES if space.name == said), None)
    return Identity(
        component="latent",
        space=said,
        dtype=name_dtypes(inventory),
        parameters=inventory.parameters,
        latent_channels=space.channels if space else None,
        downscale=space.downscale if space else None,
        evidence=(f"metadata eightfold.space: {said}",),
    )


def claim_all(shapes: Mapping[str, Shape], component: str) -> list[Claim]:
    """Every kind that the tensors of a component may be; where the component has no name, of any sort."""
    sort = component.partition(".")[0]
    claims: dict[tuple[str, str, str], Claim] = {}  # a tower is looked for in every layout, and is the same in all
    for kind in KINDS:
        key = (kind.component, kind.name, kind.variant)
        if sort in (kind.component, WHOLE) and key not in claims and (found := find_marks(shapes, kind)) is not None:
            claims[key] = Claim(kind, found)
    return [*claims.values()]


def declare(claims: list[Claim], part: Inventory) -> list[Claim]:
    """Of several claims those that the metadata declare: our own marks, or the scale in the config.json of a diffusers folder."""
    for component, key in DECLARED.items():
        said = part.metadata.get(key)
        chosen = [claim for claim in claims if claim.kind.component == component and claim.kind.name == said]
        if chosen:
            return [add_evidence(claim, f"metadata {key}: {said}") for claim in chosen]
    said = read_scale(part.metadata)
    if said is not None:
        chosen = [claim for claim in claims if claim.kind.component == "autoencoder" and said in to_scales(claim.kind)]
        if chosen:
            return [add_evidence(claim, f"{CONFIG} scaling_factor: {said}") for claim in chosen]
    return claims


def add_evidence(claim: Claim, text: str) -> Claim:
    return replace(claim, evidence=(*claim.evidence, text))


def read_scale(metadata: Mapping[str, str]) -> float | None:
    try:
        said = json.loads(metadata[CONFIG]).get("scaling_factor")
    except (KeyError, ValueError, AttributeError):
        return None
    return float(said) if isinstance(said, int | float) else None


def to_scales(kind: Kind) -> tuple[float, ...]:
    rule = kind.space.normalisation if kind.space else None
    return rule.scale if isinstance(rule, Normalisation) else ()


def settle(claims: list[Claim], space: str) -> list[Claim]:
    """Of several autoencoders the one of the space that the denoiser in the same file draws in."""
    chosen = [claim for claim in claims if claim.kind.space_name == space]
    if len(chosen) < len(claims) and chosen and claims[0].kind.component == "autoencoder":
        return [add_evidence(claim, f"the denoiser beside it draws in space {space}") for claim in chosen]
    return claims


def to_identity(name: str, part: Inventory, claims: Sequence[Claim]) -> Identity:
    identity = Identity(component=name or "unknown", dtype=name_dtypes(part), parameters=part.parameters)
    if not claims:
        nearest, why_not = find_nearest(part.shapes, name) if name.partition(".")[0] in (WHOLE, *KNOWN, "average") else (None, ())
        return replace(identity, nearest=nearest, why_not=why_not)
    first = claims[0]
    kinds = [claim.kind for claim in claims]
    alone = len(kinds) == 1
    spaces, variants = {kind.space_name for kind in kinds}, {kind.variant for kind in kinds}
    one_space = first.kind.space if len(spaces) == 1 else None
    geometries = {(kind.space.channels, kind.space.downscale) for kind in kinds if kind.space}
    channels, downscale = geometries.pop() if len(geometries) == 1 else (None, None)
    shown = (*first.evidence, *(f"{one.name} {list(part.shapes[one.name])}" for one in dict.fromkeys(first.found)))
    return replace(
        identity,
        component=name or first.kind.component,
        family=first.kind.family or None if alone else None,
        space=one_space.name if one_space else None,
        tower=first.kind.tower or None if alone else None,
        variant=first.kind.variant if len(variants) == 1 else None,
        layout=name_layout(first),
        latent_channels=channels,
        downscale=downscale,
        ties=() if alone else tuple(dict.fromkeys(kind.name for kind in kinds)),
        evidence=shown,
    )


def name_layout(claim: Claim) -> str:
    if claim.kind.keymap is None or not claim.kind.keymap.rows:
        return "only"
    return "original" if any(found.original for found in claim.found) else "diffusers"


def name_dtypes(part: Inventory) -> str:
    """The types of the tensors, that of the most numbers first: "float16" or "float16, float32"."""
    counts: Counter[str] = Counter()
    for entry in part.tensors.values():
        counts[DTYPES.get(entry.dtype, entry.dtype)] += prod(entry.shape)
    return ", ".join(name for name, _ in counts.most_common())


def find_nearest(shapes: Mapping[str, Shape], component: str) -> tuple[str | None, tuple[str, ...]]:
    """The kind of which the most marks are there, and what the others look like; nothing where none has any."""
    best, share, failing = None, 0.0, ()
    for kind in KINDS:
        sort = component.partition(".")[0]
        if sort in KNOWN and kind.component != sort:
            continue
        found = {mark: find_tensor(shapes, mark.key, kind.keymap) for mark in kind.marks}
        wanted = [mark for mark in kind.marks if not mark.absent]
        hits = sum(found[mark] is not None for mark in wanted) / len(wanted)
        lacks = tuple(explain(mark, one) for mark, one in found.items() if not fits_shape(mark, one.shape if one else None))
        if hits > share or (hits == share and best is not None and hits and len(lacks) < len(failing)):
            best, share, failing = kind, hits, lacks
    if best is None:
        return None, ()
    return f"{best.component} of {best.name} ({best.variant})", failing[:MOST_REASONS]


def explain(mark: Mark, found: Found | None) -> str:
    """Why a mark does not fit: "conv_in.weight is [320, 7, 3, 3], expected [*, 4, 3, 3]"."""
    shape = "" if not mark.shape else f" [{', '.join('*' if size is None else str(size) for size in mark.shape)}]"
    if found is None:
        return f"{mark.key}{shape} is not there"
    if mark.absent:
        return f"{found.name} is there, expected none{f' of{shape}' if shape else ''}"
    return f"{found.name} is {list(found.shape)}, expected{shape}"
