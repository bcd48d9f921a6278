"""Autoencoders that have a name of their own, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file as its authors published it: `bytes` long, with this SHA-256. What was cut out of it or cast is another one.

    `by` says what it is known by.
    """

    name: str
    space: str
    bytes: int
    sha256: str
    by: str = field(default="file", init=False)


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Weights in whatever file they lie: the fingerprints of their halves, and the count of their numbers."""

    name: str
    space: str
    parameters: int
    encoder: str
    decoder: str
    by: str = field(default="fingerprint", init=False)
