"""What a model is given beside its own file: text towers, words, low-rank adapters, and what its output means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from ..checkpoints.adapterfit import fit_adapter, group_names
from ..checkpoints.adapters import find_file, read_adapter
from ..checkpoints.filehash import hash_path, hash_weights
from ..core.errors import RequestError
from ..denoisers.unet import UNet
from ..nn.lora import attach
from ..specs.family import Family
from ..specs.network import WordsConfig
from ..specs.text import ClipText
from ..text.clip import ClipTower

SHORT = 12  # digits of a LoRA's hash that A1111 writes
SHOWN = 3  # groups of names that a warning lists


@dataclass(frozen=True, kw_only=True)
class Extras:
    """`text` are files with text towers that the model's file has not, or others in their place; `embeddings` textual inversions;
    `adapters` files of LoRA and the like, each with its weight; `skip` reads the text so many layers earlier.

    `prediction` is what the output means, "noise", "velocity", "clean" or "edm", where the file's own marks are not to decide.
    `refiner` is a file, a folder or a hub's name: the model that finishes what this one begins.
    """

    text: tuple[str | Path, ...] = ()
    embeddings: tuple[str | Path, ...] = ()
    adapters: tuple[tuple[str | Path, float], ...] = ()
    skip: int = 0
    prediction: str | None = None
    refiner: str | Path | None = None

    def to_record(self, text: WordsConfig | ClipText) -> dict[str, object]:
        """What was given, for the metadata of a picture: files as they were named, with what they are known again by.

        The skip is counted as people count it, from the last layer, which is 1.
        """
        adapters = [
            {**to_file_record(path), "short": hash_weights(find_file(Path(path)))[:SHORT], "weight": weight}
            for path, weight in self.adapters
        ]
        files = {"text": [*map(to_file_record, self.text)], "embeddings": [*map(to_file_record, self.embeddings)], "adapters": adapters}
        skip = self.skip + count_last(text) if self.skip and isinstance(text, ClipText) else 0
        refiner = None if self.refiner is None else Path(self.refiner).name
        found = {**files, "clip_skip": skip, "given_prediction": self.prediction, "refiner": refiner}
        return {name: value for name, value in found.items() if value}


def to_file_record(path: str | Path) -> dict[str, object]:
    return {"file": str(path), "sha256": hash_path(path)}


def count_last(text: ClipText) -> int:
    """The layer that a family reads, counted from the last, which is 1: what "clip skip" means where nothing is skipped."""
    return 1 + min(reading.tower.layers - reading.depth for reading in text.readings)


def to_weighed(text: str) -> tuple[Path, float]:
    """ "style.safetensors:0.8" as a file and its weight; 1 where none is given. Raises RequestError."""
    path, colon, weight = text.rpartition(":")
    try:
        found = (Path(path), float(weight)) if colon else (Path(text), 1.0)
    except ValueError:  # a colon of the file's own name
        return Path(text), 1.0
    if not isfinite(found[1]):
        raise RequestError(f"{text!r}: the weight is not a number", hint="--lora style.safetensors:0.8")
    return found


def attach_adapters(
    adapters: Sequence[tuple[str | Path, float]], family: Family, denoiser: UNet, towers: Sequence[ClipTower]
) -> tuple[str, ...]:
    """Put them beside the layers that they change; warnings of what in them fits nothing. Raises CheckpointError."""
    warnings: list[str] = []
    for path, weight in adapters:
        fit = fit_adapter(read_adapter(path), denoiser, [tower.text_model for tower in towers], family.keymap)
        attach(denoiser, fit.denoiser, weight)
        for tower, changes in zip(towers, fit.texts, strict=True):
            attach(tower.text_model, changes, weight)
        if fit.unmatched:
            groups = group_names(fit.unmatched)
            some = ", ".join(f"{count}x {name}" for name, count in [*groups.items()][:SHOWN]) + (", ..." if len(groups) > SHOWN else "")
            warnings.append(f"{path}: {len(fit.unmatched)} tensors fit nothing in this model: {some}")
    return tuple(warnings)
