"""Weights over several files: shards with their index, and the folders of diffusers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError
from .entries import Entry, Inventory
from .formats import DAMAGED, refuse_twice, show

INDEX = re.compile(r"(.+)\.index(?:\.[\w-]+)?\.json", re.DOTALL)  # a variant stands behind: NAME.safetensors.index.fp16.json
CONFIG = "config.json"
SCHEDULER, AUTOENCODER = "scheduler/scheduler_config.json", f"vae/{CONFIG}"
WHOLE = "model_index.json"
SHARD = re.compile(r"-\d+-of-\d+\.\w+$")
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")  # as diffusers and transformers name weights, the likeliest first
COMPONENTS = ("vae", "unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
LONGEST_JSON, MOST_TABLES, MOST_ITEMS = 20_000_000, 10_000, 1_000_000
COMPLETE = "fetch the file that is missing, into the same folder"

Read = Callable[[Path], Inventory]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON table out of a small file. Raises CheckpointError."""
    try:
        if path.stat().st_size > LONGEST_JSON:
            raise CheckpointError(f"{path} has {path.stat().st_size} bytes, more than such a file can need", hint=DAMAGED)
        text = path.read_bytes()
        if text.count(b"{") + text.count(b"[") > MOST_TABLES or text.count(b",") > MOST_ITEMS:
            raise ValueError("too many tables")
        table = json.loads(text, object_pairs_hook=refuse_twice)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", hint="check the path and your rights to read it") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {show(error)}", hint=DAMAGED) from None
    if not isinstance(table, dict):
        raise CheckpointError(f"{path} holds no table", hint=DAMAGED)
    return table


def read_shards(path: Path, read: Read) -> Inventory:
    """The tensors that an index (`NAME.safetensors.index.json`) spreads over the files beside it; `read` lists one of those."""
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise CheckpointError(
            f"{path} has no weight_map from tensors to files", hint="an index of shards is named *.safetensors.index.json"
        )
    shards: dict[str, Inventory] = {}
    for file in sorted(set(places.values())):
        if not file or file in (".", "..") or Path(file).name != file or "\\" in file or "\0" in file:
            raise CheckpointError(f"{path} names the shard {show(repr(file))}, which is not a file beside it", hint=DAMAGED)
        if not (path.parent / file).is_file():
            raise CheckpointError(f"{path} names {show(file)}, which is not there", hint=f"{COMPLETE}: {show(file)}")
        shards[file] = read(path.parent / file)
    tensors: dict[str, Entry] = {}
    for name, file in places.items():
        if name not in shards[file].tensors:
            raise CheckpointError(f"{path.parent / file} lacks tensor {show(name)}, which {path.name} places there", hint=DAMAGED)
        tensors[name] = shards[file].tensors[name]
    metadata = {key: value for shard in shards.values() for key, value in shard.metadata.items()}
    notes = tuple(note for shard in shards.values() for note in shard.notes)
    files = tuple(file for shard in shards.values() for file in shard.files)
    return Inventory(source=str(path), format="shards", files=files, tensors=tensors, metadata=metadata, notes=notes)


def read_folder(path: Path, read: Read) -> Inventory:
    """A diffusers folder with all its components, or the folder of one component (config.json and weights)."""
    names = list_components(path)
    if names is None:
        return read_component(path, read)
    tensors: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    files: list[Path] = []
    notes: list[str] = []
    for name in names:
        if not (path / name).is_dir():
            notes.append(f"{show(name)} is named in {WHOLE}, but not there")
            continue
        if find_weights(path / name) is None and not (path / name / CONFIG).is_file():
            continue  # a scheduler or a tokenizer
        part = read_component(path / name, read)
        tensors |= {f"{name}/{key}": entry for key, entry in part.tensors.items()}
        metadata |= {f"{name}/{key}": value for key, value in part.metadata.items()}
        files += part.files
        notes += [f"{name}: {note}" for note in part.notes]
    if not tensors:
        raise CheckpointError(f"{path} has components, but no weights in them", hint=COMPLETE)
    if (path / SCHEDULER).is_file():
        metadata[SCHEDULER] = json.dumps(read_json(path / SCHEDULER))
    return Inventory(source=str(path), format="folder", files=tuple(files), tensors=tensors, metadata=metadata, notes=tuple(notes))


def list_components(path: Path) -> list[str] | None:
    """The component folders, by model_index.json or else by their usual names; None for the folder of a single component."""
    if (path / WHOLE).is_file():
        listed = [name for name, value in read_json(path / WHOLE).items() if isinstance(value, list) and any(value)]
        return [name for name in listed if not name.startswith("_") and Path(name).name == name and name not in (".", "..")]
    if find_weights(path) is None:
        return [name for name in COMPONENTS if (path / name).is_dir()] or None
    return None


def read_component(path: Path, read: Read) -> Inventory:
    found = find_weights(path)
    if found is None:
        raise CheckpointError(f"{path} has no weights", hint=f"{COMPLETE}: a {', '.join(SUFFIXES)} file")
    part = read_shards(found, read) if is_index(found.name) else read(found)
    config = {CONFIG: json.dumps(read_json(path / CONFIG))} if (path / CONFIG).is_file() else {}
    return Inventory(
        source=str(path), format="folder", files=part.files, tensors=part.tensors, metadata={**part.metadata, **config}, notes=part.notes
    )


def find_weights(path: Path) -> Path | None:
    """The one weight file or index of a folder: safetensors first, the usual names first, whole precision before variants (.fp16)."""
    try:
        names = sorted(one.name for one in path.iterdir() if not one.is_dir())
    except OSError as error:
        raise CheckpointError(
            f"cannot read the folder {path}: {error.strerror}", hint="check the path and your rights to read it"
        ) from None
    for suffix in SUFFIXES:
        for stem in STEMS:
            for name in (stem + suffix, f"{stem}{suffix}.index.json"):
                if name in names:
                    return path / name
        found = leave_shards(name for name in names if INDEX.sub(r"\1", name).endswith(suffix))
        lone = next((name for name in found if SHARD.search(name)), None)
        if lone is not None:
            raise CheckpointError(f"{path} has {show(lone)}, but not the index of its shards", hint=f"{COMPLETE}: *{suffix}.index.json")
        if len(found) > 1:
            what = f"{path} has several weight files: {show(', '.join(found))}"
            raise CheckpointError(what, hint="name one of the files instead of the folder")
        if found:
            return path / found[0]
    return None


def is_index(name: str) -> bool:
    return INDEX.fullmatch(name) is not None


def leave_shards(names: Iterable[str]) -> list[str]:
    """Without the shards (NAME-00001-of-00002.safetensors, NAME.fp16-00001-of-00002.safetensors) of an index that is there too."""
    names = list(names)
    stems = tuple(INDEX.sub(r"\1", name).rpartition(".")[0] for name in names if is_index(name))
    return [name for name in names if is_index(name) or not (SHARD.search(name) and name.startswith(stems))]
