"""Every kind of weights that can be known: the autoencoders of all spaces, the denoisers of all families and the ControlNets made for them.

No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..families.catalog import KNOWN_CONTROLS, KNOWN_FAMILIES
from ..families.controls import NO_CONTROL
from ..specs.keymap import Keymap
from ..specs.mark import Mark
from ..specs.space import Space
from .candidates import CANDIDATES

Component = Literal["autoencoder", "denoiser", "control"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An autoencoder of a space, a denoiser of a family or a ControlNet for one; `family` is empty for an autoencoder.

    Marks name tensors in our layout.
    """

    component: Component
    family: str = ""
    space: Space
    variant: str
    marks: tuple[Mark, ...]
    keymap: Keymap | None

    @property
    def name(self) -> str:
        """What ties are listed by: the space of an autoencoder, the family of anything else."""
        return self.family or self.space.name


AUTOENCODERS = tuple(
    Kind(component="autoencoder", space=one.space, variant=one.variant, marks=one.marks, keymap=one.keymap) for one in CANDIDATES
)
DENOISERS = tuple(
    Kind(
        component="denoiser",
        family=family.name,
        space=edition.space or family.space,
        variant=edition.name,
        marks=(*family.marks, *edition.marks, *NO_CONTROL),
        keymap=edition.keymap or family.keymap,
    )
    for family in KNOWN_FAMILIES
    for edition in family.editions
)
CONTROLS = tuple(
    Kind(component="control", family=one.family.name, space=one.family.space, variant="base", marks=one.marks, keymap=one.keymap)
    for one in KNOWN_CONTROLS
)
KINDS = (*AUTOENCODERS, *DENOISERS, *CONTROLS)
