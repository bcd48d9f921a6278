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
    shape = inventory.get(mark.key)
    if shape is None or mark.absent:
        return (shape is None) == mark.absent
    return not mark.shape or (
        len(mark.shape) == len(shape) and all(want in (None, got) for want, got in zip(mark.shape, shape, strict=True))
    )


def find_claimants(inventory: Inventory, known: Iterable[M]) -> list[M]:
    """Every space or family whose marks are all there."""
    return [one for one in known if all(fits(mark, inventory) for mark in one.marks)]


def identify(inventory: Inventory, known: Iterable[M], *, source: str, declared: str | None = None) -> M:
    """The one that fits; `declared` is what the file's metadata says, and must fit too. A tie is a question to the caller."""
    known = list(known)
    found = find_claimants(inventory, known)
    if declared is not None:
        found = [one for one in found if one.name == declared]
    names = ", ".join(one.name for one in known)
    if not found:
        said = "" if declared is None else f" (its metadata says {declared!r})"
        raise UnknownCheckpoint(f"{source} has the tensors of no known model{said}; known: {names}", hint=INFO)
    if len(found) > 1:
        claimed = ", ".join(one.name for one in found)
        raise AmbiguousCheckpoint(f"{source} is claimed by {claimed}", hint=INFO)
    return found[0]
