"""What is kept of a picture that does not come to its end: sampling has taken long."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import EightfoldError, Undecoded
from .console import warn
from .options import Choice

if TYPE_CHECKING:
    from ..codec.latentfile import Latent
    from ..pipelines.generate import GenerationStep

SUFFIX = ".latent.safetensors"


class Keeper:
    """Keeps what was sampled where a picture does not come to its end, and says how to decode it."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.step: GenerationStep | None = None
        self.paths: list[Path] = []

    def __enter__(self) -> None: ...

    def begin(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def watch(self, run: Iterator[GenerationStep]) -> Iterator[GenerationStep]:
        for self.step in run:
            yield self.step
            if self.step.is_last:  # and written
                self.step, self.paths = None, self.paths[1:]

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Undecoded):
            self.keep(error.latent)
            raise error.__cause__ or error
        if error is not None and self.step is not None:
            self.keep(self.step.to_latent())

    def keep(self, latent: Latent) -> None:
        path = find_free(self.paths[0].with_suffix(SUFFIX))
        try:
            latent.save(path)
        except EightfoldError as error:
            warn(f"its latent could not be kept either: {error}")
            return
        words = ["eightfold", "decode", str(path), "--model", self.choice.model]
        words += [] if self.choice.vae is None else ["--vae", str(self.choice.vae)]
        warn(f"the latent is kept; to decode it: {shlex.join(words)}")


def find_free(path: Path) -> Path:
    """The path, or the first of those with a number that is not there yet."""
    name, number = path.name.removesuffix(SUFFIX), 2
    while os.path.lexists(path):
        path, number = path.with_name(f"{name}-{number}{SUFFIX}"), number + 1
    return path
