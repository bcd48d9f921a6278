"""Whose weights are these? By the mark that the file carries, else by names and shapes; never by values or a file name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from ..core.errors import AmbiguousCheckpoint, UnknownCheckpoint
from ..specs.mark import Mark

INFO = "`eightfold info FILE` lists what is in it"
Inventory = Mapping[str, tuple[int, ...]]  # tensor name -> shape


class Marked(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def marks(self) -> tuple[Mark, ...]: ...


M = TypeVar("M", bound=Marked)


def fits(mark: Mark, inventory: Inventory) -> bool:
    return fits_shape(mark, inventory.get(mark.key))


def fits_shape(mark: Mark, shape: tuple[int, ...] | None) -> bool:
    """Whether a tensor of this shape, or none, is what the mark asks for."""
    if shape is None:
        return mark.absent
    same = not mark.shape or (
        len(mark.shape) == len(shape) and all(want in (None, got) for want, got in zip(mark.shape, shape, strict=True))
    )
    return same != mark.absent


def find_claimants(inventory: Inventory, known: Iterable[M]) -> list[M]:
    """Every space or family whose marks are all there; one without marks claims nothing."""
    return [one for one in known if one.marks and all(fits(mark, inventory) for mark in one.marks)]


def identify(inventory: Inventory, known: Iterable[M], *, source: str, declared: str | None = None) -> M:
    """The one that fits; `declared` is what the file's metadata says, and must fit too. A tie is a question to the caller."""
    known = list(known)
    return take_only(find_claimants(inventory, known), known, source=source, declared=declared)


def take_only(found: Iterable[M], known: Iterable[M], *, source: str, declared: str | None, tie: str = INFO) -> M:
    """The one of `found` that goes by the `declared` name. Raises UnknownCheckpoint for none, AmbiguousCheckpoint, with the hint `tie`."""
    found = [one for one in found if declared in (None, one.name)]
    if not found:
        names = ", ".join(dict.fromkeys(one.name for one in known))
        said = "" if declared is None else f" (its metadata says {declared!r})"
        raise UnknownCheckpoint(f"{source} has the tensors of no known model{said}; known: {names}", hint=INFO)
    if len(found) > 1:
        claimed = ", ".join(one.name for one in found)
        raise AmbiguousCheckpoint(f"{source} is claimed by {claimed}", hint=tie)
    return found[0]
