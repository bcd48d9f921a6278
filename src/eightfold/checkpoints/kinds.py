"""Every kind of weights that can be known: the autoencoders of all spaces, the denoisers of all families with the ControlNets made for
them, and the text towers that they read.

No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..families.catalog import FAMILIES, KNOWN_CONTROLS, KNOWN_FAMILIES
from ..families.controls import NO_CONTROL
from ..families.keymaps.catalog import TEXT_KEYMAPS
from ..specs.keymap import Keymap
from ..specs.mark import Mark
from ..specs.space import Space
from ..specs.text import ClipConfig, ClipText
from .candidates import CANDIDATES

Component = Literal["autoencoder", "denoiser", "control", "text"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An autoencoder of a space, a denoiser of a family, a ControlNet for one, or a text tower of that name.

    `family` is empty for an autoencoder and a tower, and a tower has no space: several families read it. Marks name tensors in our layout.
    """

    component: Component
    family: str = ""
    space: Space | None = None
    tower: str = ""
    variant: str
    marks: tuple[Mark, ...]
    keymap: Keymap | None

    @property
    def name(self) -> str:
        """What ties are listed by: the space of an autoencoder, a tower's own name, the family of anything else."""
        return self.family or self.tower or self.space_name

    @property
    def space_name(self) -> str:
        return "" if self.space is None else self.space.name


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


def list_readings() -> dict[ClipConfig, int]:
    """Every text tower, and the least of its layers that any family reads: so many are in every file of it."""
    texts = [text for family in FAMILIES for text in (family.text, *(one.text for one in family.editions)) if isinstance(text, ClipText)]
    found: dict[ClipConfig, int] = {}
    for reading in (reading for text in texts for reading in text.readings):
        found[reading.tower] = min(reading.depth, found.get(reading.tower, reading.depth))
    return found


def list_marks(tower: ClipConfig, least: int) -> tuple[Mark, ...]:
    """Towers differ in nothing but their sizes."""
    return (
        Mark("text_model.embeddings.token_embedding.weight", (None, tower.width)),
        Mark("text_model.embeddings.position_embedding.weight", (tower.tokens, tower.width)),
        Mark(f"text_model.encoder.layers.{least - 1}.layer_norm1.weight"),
        Mark(f"text_model.encoder.layers.{tower.layers}.layer_norm1.weight", absent=True),
    )


# A tower's own keymap first: the way to the layout that it was published in
TEXTS = tuple(
    Kind(component="text", tower=tower.name, variant="base", marks=list_marks(tower, least), keymap=keymap)
    for tower, least in list_readings().items()
    for keymap in sorted(TEXT_KEYMAPS, key=lambda keymap: keymap.name != tower.layout)
)
KINDS = (*AUTOENCODERS, *DENOISERS, *CONTROLS, *TEXTS)
