"""What a picture was made with beside its model, found again: LoRA files, inversions, text towers, ControlNets and their pictures.

A file is looked for where the picture says it was, beside the model, in the folders for its kind beside the model's, or in the current one.
Its content decides: one of ours that is not what it was is refused. What metadata name is opened only if it is an ordinary file with the
ending of weights or of a picture, and read as data whatever it holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..checkpoints.filehash import hash_file, hash_path, hash_weights
from ..core.errors import CheckpointError
from ..specs.family import PREDICTIONS
from ..specs.network import WordsConfig
from ..specs.text import ClipText
from .bundle import NOTHING, Model
from .extras import Extras, count_last
from .invoke import to_tables
from .like import LORA, Likeness
from .provenance import Lora, Provenance, to_number, to_text
from .request import Guide

WEIGHTS = (".safetensors", ".pt", ".ckpt", ".bin", ".pth")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif")
SHELVES = {  # how other programs call the folder beside that of the models
    "lora": ("lora", "loras", "lycoris"),
    "embedding": ("embedding", "embeddings"),
    "control": ("controlnet", "controlnets"),
    "text": ("clip", "text_encoder", "text_encoders"),
    "enlarge_model": ("esrgan", "realesrgan", "upscale_models"),
    "picture": (),
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file by its name or place; what its content is known by, where that was said. `option` gives it by hand."""

    kind: str
    file: str
    sha256: str = ""
    short: str = ""
    option: str

    @property
    def suffixes(self) -> tuple[str, ...]:
        return PICTURES if self.kind == "picture" else WEIGHTS


@dataclass(frozen=True, kw_only=True)
class Again:
    """What was found, and what was not, a sentence each by the name of its option and a number."""

    extras: Extras = NOTHING
    controls: tuple[Guide, ...] = ()
    enlarger: Path | None = None
    missed: Mapping[str, str] = field(default_factory=dict[str, str])

    def join(self, extras: Extras) -> Extras:
        """With what the caller gives in the place of some of it."""
        mine = self.extras
        return replace(
            extras,
            adapters=extras.adapters or mine.adapters,
            embeddings=extras.embeddings or mine.embeddings,
            text=extras.text or mine.text,
            prediction=extras.prediction or mine.prediction,
        )

    def repeat(self, likeness: Likeness) -> Likeness:
        """The likeness with its ControlNets, and what is missed now that files were looked for."""
        missed = {name: text for name, text in likeness.missed.items() if not name.startswith(LORA)}
        request = replace(likeness.request, controls=self.controls, enlarge_model=self.enlarger)
        return replace(likeness, request=request, missed={**missed, **self.missed})


def find_again(found: Provenance, model: str | Path, *, given: Collection[str] = ()) -> Again:
    """All that a picture names and `given` does not ("lora", "embedding", "control", "text": what the caller gives in their place).

    `model` is the file or folder whose neighbours are looked through. Raises CheckpointError for a file of ours with another content.
    """
    search = Search(Path(model))
    loras = () if "lora" in given else found.loras
    adapters = [(search.find(to_wanted(lora), f"lora {number}"), lora.weight) for number, lora in enumerate(loras)]
    own = found.source == "eightfold"
    embeddings, text = (
        [search.find(to_file(kind, row), f"{kind} {number}") for number, row in enumerate(read_rows(found, name, kind, given))]
        for kind, name in (("embedding", "embeddings"), ("text", "text"))
    )
    controls = [search.find_guide(row, f"control {number}") for number, row in enumerate(read_rows(found, "controls", "control", given))]
    enlargers = [
        search.find(to_file("enlarge_model", row), "enlarge_model") for row in read_rows(found, "enlarge_model", "enlarge_model", given)
    ]
    said = found.extra.get("given_prediction")
    return Again(
        extras=Extras(
            adapters=tuple((path, weight) for path, weight in adapters if path is not None),
            embeddings=tuple(path for path in embeddings if path is not None),
            text=tuple(path for path in text if path is not None),
            prediction=said if own and said in PREDICTIONS and "prediction" not in given else None,
        ),
        controls=tuple(one for one in controls if one is not None),
        enlarger=next(iter(enlargers), None),
        missed=search.missed,
    )


class Search:
    """Files beside a model, and what was not there."""

    def __init__(self, model: Path) -> None:
        self.folder = model if model.is_dir() else model.parent
        self.missed: dict[str, str] = {}

    def find(self, wanted: Wanted, name: str) -> Path | None:
        """The first file of that content. Raises CheckpointError where one of ours has another."""
        others: list[Path] = []
        for place in self.list_places(wanted):
            if is_same(place, wanted):
                return place
            others.append(place)
        what = f"{name.split()[0]} {wanted.file}"
        if others and wanted.sha256:
            what = (
                f"{others[0]} is not what it was when the picture was made (SHA-256 {hash_path(others[0])[:12]}, not {wanted.sha256[:12]})"
            )
            raise CheckpointError(what, hint=f"{wanted.option} names the file to use")
        why = f"{others[0]} has another content, not {wanted.short}" if others else "not found"
        self.missed[name] = f"{what}: {why}; {wanted.option} gives it"
        return None

    def list_places(self, wanted: Wanted) -> Iterator[Path]:
        """Ordinary files that are there under that name. Folders are not gone through because a picture says so."""
        name = wanted.file.replace("\\", "/").rpartition("/")[2]
        if not name or name in (".", "..") or "\0" in wanted.file:
            return
        here = Path(wanted.file)
        if wanted.sha256 and self.may_open(here, wanted):
            yield here
        names = [name] if name.lower().endswith(wanted.suffixes) else [name + suffix for suffix in wanted.suffixes]
        folders = dict.fromkeys([self.folder, *self.list_shelves(wanted.kind), Path()])
        yield from (place for folder in folders for one in names if self.may_open(place := folder / one, wanted) and place != here)

    def may_open(self, path: Path, wanted: Wanted) -> bool:
        return path.suffix.lower() in wanted.suffixes and os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises where a name cannot be one

    def list_shelves(self, kind: str) -> list[Path]:
        with suppress(OSError):
            return sorted(one for one in self.folder.absolute().parent.iterdir() if one.name.lower() in SHELVES[kind] and one.is_dir())
        return []

    def find_guide(self, row: Mapping[str, Any], name: str) -> Guide | None:
        """A ControlNet with its picture, or none where one of the two is not there."""
        net = Wanted(kind="control", file=to_text(row.get("net")) or "", sha256=to_text(row.get("sha256")) or "", option="--control")
        shown = to_text(row.get("picture")) or ""
        picture = Wanted(kind="picture", file=shown, sha256=to_text(row.get("picture_sha256")) or "", option="--control")
        paths = self.find(net, name), self.find(picture, name)
        if paths[0] is None or paths[1] is None:
            return None
        numbers = {key: to_number(row.get(key)) for key in ("weight", "start", "end")}
        settings = {key: value for key, value in numbers.items() if value is not None}
        return Guide(net=paths[0], picture=paths[1], prepare=to_text(row.get("prepare")) or "none", **settings)


def is_same(path: Path, wanted: Wanted) -> bool:
    """Where nothing is said of the content, the name has to do."""
    if wanted.sha256:
        return hash_path(path) == wanted.sha256
    return not wanted.short or any(whole.startswith(wanted.short) for whole in (hash_weights(path), hash_file(path)))


def to_wanted(lora: Lora) -> Wanted:
    return Wanted(kind="lora", file=lora.file or lora.name, sha256=lora.sha256, short=lora.short, option="--lora")


def to_file(kind: str, row: Mapping[str, Any]) -> Wanted:
    return Wanted(
        kind=kind, file=to_text(row.get("file")) or "", sha256=to_text(row.get("sha256")) or "", option=f"--{kind.replace('_', '-')}"
    )


def read_rows(found: Provenance, name: str, kind: str, given: Collection[str]) -> list[dict[str, Any]]:
    """What a record of ours lists under a name."""
    said = found.extra.get(name)
    if found.source != "eightfold" or kind in given or not isinstance(said, str):
        return []
    try:
        table = json.loads(said)
        return to_tables([table] if isinstance(table, dict) else table)
    except (ValueError, RecursionError):
        return []


def to_skip(found: Provenance, text: WordsConfig | ClipText) -> int | None:
    """How many layers earlier to read the text; None where that cannot be.

    A1111's setting acts on towers that are read to their last layer alone (modules/sd_hijack_clip.py, sd_hijack_open_clip.py).
    """
    if found.clip_skip is None:
        return 0
    if not isinstance(text, ClipText):
        return 0 if found.clip_skip == 1 else None
    last = count_last(text)
    skip = 0 if found.source == "a1111" and last > 1 else max(0, found.clip_skip - last)
    return skip if skip < min(reading.depth for reading in text.readings) else None


def skip_again(model: Model, found: Provenance) -> Model:
    """The model with its text read as for the picture, as far as that can be."""
    skip = to_skip(found, model.family.text)
    return model if not skip else model.to_skip(skip)
