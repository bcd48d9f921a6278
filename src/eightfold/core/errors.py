"""Every error a caller may want to catch.

EightfoldError
  CheckpointError        a weight file cannot be used
    UnknownCheckpoint      no space or family claims these weights
    AmbiguousCheckpoint    more than one claims them
    WeightMismatch         names or shapes differ from the network
    SpaceMismatch          an autoencoder or a latent does not belong to this model
  ImageError             an image file cannot be read
  LatentError            a latent file or tensor cannot be used
  RequestError           the caller asked for something impossible
    UnknownName            a sampler, model or option that does not exist
    UnknownWord            a word outside a fixed vocabulary
  ConfigError            a configuration file does not describe what it should
  OutputError            a result cannot be written
  Undecoded              a picture was sampled and then could not be decoded
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class EightfoldError(Exception):
    """Base class. `hint` says what the caller can do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class CheckpointError(EightfoldError): ...


class UnknownCheckpoint(CheckpointError): ...


class AmbiguousCheckpoint(CheckpointError): ...


class WeightMismatch(CheckpointError): ...


class SpaceMismatch(CheckpointError): ...


class ImageError(EightfoldError): ...


class LatentError(EightfoldError): ...


class RequestError(EightfoldError): ...


class UnknownName(RequestError):
    """`kind` is what was looked for ("sampler"), `name` what was asked, `known` what there is."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = to_nearest(name, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} {name!r}", hint=hint)
        self.asked = (kind, name, known)

    def __reduce__(self) -> tuple[type, tuple[str, str, list[str]]]:
        """Pickled by its arguments, so that it survives the way out of a worker process."""
        return type(self), self.asked


class UnknownWord(RequestError): ...


class ConfigError(EightfoldError): ...


class OutputError(EightfoldError): ...


class Undecoded(EightfoldError):
    """`latent` is what was sampled, a `codec.latentfile.Latent`; what went wrong is the cause."""

    def __init__(self, message: str, latent: Any, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.latent = latent


def to_nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names most like `name`, best first; empty when none is close."""
    return get_close_matches(name.lower(), list(known), n=count, cutoff=0.55)
