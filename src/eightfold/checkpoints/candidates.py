"""Which latent space an autoencoder's tensors belong to: every autoencoder that is known, in every layout it is published in."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import SpaceMismatch, UnknownName
from ..families.spaces import SPACES
from ..specs.keymap import Keymap
from ..specs.mark import Mark
from ..specs.network import AutoencoderConfig
from ..specs.space import DType, Space, Speech
from .identify import Inventory, take_only
from .lookup import find_marks

WEIGHTLESS = {space.name: space for space in SPACES if not space.marks}
TIE = "say which it is with --space NAME (space= in Python)"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An autoencoder of `space`: the space's own or one of its variants. `name` is the space's."""

    name: str
    variant: str
    space: Space
    autoencoder: AutoencoderConfig
    marks: tuple[Mark, ...]
    speaks: Speech
    dtypes: tuple[DType, ...]
    keymap: Keymap | None


def to_candidate(space: Space) -> Candidate:
    """The space's own autoencoder."""
    return Candidate(
        name=space.name,
        variant="base",
        space=space,
        autoencoder=space.autoencoder,
        marks=space.marks,
        speaks="raw",
        dtypes=space.dtypes,
        keymap=space.keymap,
    )


def list_candidates(space: Space) -> list[Candidate]:
    """The space's own autoencoder and its variants; none where there are no weights to know them by."""
    others = [
        Candidate(
            name=space.name,
            variant=variant.name,
            space=space,
            autoencoder=variant.autoencoder,
            marks=variant.marks,
            speaks=variant.speaks,
            dtypes=variant.dtypes,
            keymap=variant.keymap,
        )
        for variant in space.variants
    ]
    return [one for one in (to_candidate(space), *others) if one.marks]


CANDIDATES = tuple(one for space in SPACES for one in list_candidates(space))


def find_space(name: str) -> Space:
    """Raises UnknownName."""
    spaces = {space.name: space for space in SPACES}
    if name not in spaces:
        raise UnknownName("space", name, spaces)
    return spaces[name]


def find_candidates(inventory: Inventory) -> list[Candidate]:
    """Every autoencoder whose marks are all there, under its own names or those of its other layout."""
    return [one for one in CANDIDATES if find_marks(inventory, one) is not None]


def identify_autoencoder(inventory: Inventory, *, source: str, declared: str | None = None, space: str | None = None) -> Candidate:
    """The one autoencoder that the tensors are. `declared` is the space that the file's metadata name, `space` the one that is wanted.

    Raises UnknownCheckpoint, AmbiguousCheckpoint where several spaces share these tensors and nobody says which, SpaceMismatch where the
    wanted space is none of them, UnknownName for a space that does not exist.
    """
    if space is not None:
        find_space(space)
    found = find_candidates(inventory)
    fitting = [one for one in found if declared in (None, one.name)]
    if space is None or not fitting:
        return take_only(found, CANDIDATES, source=source, declared=declared, tie=TIE)
    chosen = [one for one in fitting if one.name == space]
    if not chosen:
        names = " or ".join(one.name for one in fitting)
        raise SpaceMismatch(f"{source} is an autoencoder of space {names}, expected space {space}", hint=f"name a {space} autoencoder")
    return chosen[0]
