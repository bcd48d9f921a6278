"""Whether two things belong together, as far as facts go: their spaces and geometries. No torch here; `pipelines.match` measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..families.catalog import KNOWN_FAMILIES
from .identity import Identity
from .kinds import DENOISERS

Verdict = Literal["allowed", "assumed", "refused"]

FAMILY_SPACES = {
    family.name: tuple(dict.fromkeys(kind.space_name for kind in DENOISERS if kind.family == family.name)) for family in KNOWN_FAMILIES
}


def list_spaces(identity: Identity) -> tuple[str, ...]:
    """The spaces that a component may be of; empty where nothing is known."""
    if identity.space is not None:
        return (identity.space,)
    if identity.component == "denoiser":
        return tuple(dict.fromkeys(space for family in identity.ties for space in FAMILY_SPACES[family]))
    return identity.ties


def compare_spaces(first: Sequence[str], second: Sequence[str]) -> Verdict:
    """The rule of belonging: the same space is allowed, proven different ones are refused; a tie or an unknown is assumed to fit."""
    if first and second and not {*first} & {*second}:
        return "refused"
    return "allowed" if len(first) == len(second) == 1 else "assumed"


def compare(first: Identity, second: Identity) -> tuple[Verdict, str]:
    """The verdict on two components, and why in a few words."""
    ours, theirs = list_spaces(first), list_spaces(second)
    verdict = compare_spaces(ours, theirs)
    said = f"{name_spaces(ours)} and {name_spaces(theirs)}"
    if verdict == "assumed":
        geometries = [(one.latent_channels, one.downscale) for one in (first, second)]
        if None not in (*geometries[0], *geometries[1]) and geometries[0] != geometries[1]:
            return "refused", f"{show_geometry(first)} and {show_geometry(second)}"
    return verdict, said


def name_spaces(spaces: Sequence[str]) -> str:
    return f"space {' or '.join(spaces)}" if spaces else "an unknown space"


def show_geometry(identity: Identity) -> str:
    return f"{identity.latent_channels} channels at 1/{identity.downscale}"
