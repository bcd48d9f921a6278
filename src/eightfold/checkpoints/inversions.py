"""Textual inversions out of the files that trainers write (.pt, .bin, .safetensors), without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.errors import CheckpointError
from ..text.inversion import Inversion
from .entries import Entry
from .formats import DAMAGED, show
from .inventory import read_inventory
from .load import map_file, to_tensor
from .picklereader import Inert, View
from .torchzip import check_byte_order, check_spans, find_base, find_span, read_records, read_zip_table, to_entry, to_items

PARAMETERS = ("string_to_param", "emb_params")  # the trainers of the first paper and of the web UI; kohya's
ANY = "*"  # the placeholder that the first trainers wrote instead of a word
MOST_VECTORS, MOST_WIDTHS = 1000, 8
HINT = "a textual inversion holds one table of vectors for each text tower and nothing else"


def read_inversion(path: str | Path, name: str | None = None) -> Inversion:
    """The word in a file. It is called what the file is called and, in diffusers' files, what it was trained as; or `name` alone.

    Layouts: `string_to_param` (a table or torch's ParameterDict), `emb_params`, `clip_l` and `clip_g` for SDXL, one tensor under its
    word (diffusers), a bare tensor. Raises CheckpointError for anything else.
    """
    path = Path(path)
    entries = read_torch_vectors(path) if is_torch_archive(path) else dict(read_inventory(path).tensors)
    if not entries or len(entries) > MOST_WIDTHS:
        raise CheckpointError(f"{path} holds {len(entries)} tensors: it is no textual inversion", hint=HINT)
    vectors: dict[int, Tensor] = {}
    for key, entry in entries.items():
        table = to_table(path, key, to_tensor(key, entry, map_file(entry.file)))
        if table.shape[1] in vectors:
            raise CheckpointError(f"{path} has two tables of vectors of {table.shape[1]} numbers", hint=HINT)
        vectors[table.shape[1]] = table
    counts = {len(table) for table in vectors.values()}
    if len(counts) > 1:
        raise CheckpointError(f"{path} has {' and '.join(map(str, sorted(counts)))} vectors for its towers, expected as many", hint=HINT)
    names = (name,) if name else tuple(dict.fromkeys([path.stem, *to_words(entries)]))
    return Inversion(names=names, vectors=vectors, source=str(path))


def is_torch_archive(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def to_words(entries: Mapping[str, Entry]) -> list[str]:
    """The word that diffusers' layout has for its only tensor."""
    key = next(iter(entries))
    return [key] if len(entries) == 1 and key not in (ANY, "", *PARAMETERS, "clip_l", "clip_g") else []


def to_table(path: Path, key: str, tensor: Tensor) -> Tensor:
    """[k, width] in float32; one vector alone counts as a table."""
    table = tensor[None] if tensor.ndim == 1 else tensor
    if table.ndim != 2 or not table.is_floating_point() or not 0 < len(table) <= MOST_VECTORS or not table.shape[1]:
        what = f"tensor {show(key)} is {list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
        raise CheckpointError(f"{path}: {what}, expected vectors [k, width] of numbers with a fraction", hint=HINT)
    table = table.float().clone()
    if not bool(table.isfinite().all()):
        raise CheckpointError(f"{path}: tensor {show(key)} has numbers that are infinite or none", hint=DAMAGED)
    return table


def read_torch_vectors(path: Path) -> dict[str, Entry]:
    """Where the vectors lie in an archive of torch.save."""
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as file:
        archive = read_zip_table(path, file)
        base = find_base(path, archive)
        check_byte_order(path, file, archive, base)
        views = find_vectors(read_records(path, file, archive[f"{base}data.pkl"]).root)
        if len(views) > MOST_WIDTHS:
            raise CheckpointError(f"{path} holds {len(views)} tensors: it is no textual inversion", hint=HINT)
        keys = {key: f"{base}data/{view.storage.key}" for key, view in views.items()}
        entries = {key: to_entry(path, file, key, view, archive.get(keys[key])) for key, view in views.items()}
        check_spans(path, [find_span(path, file, archive[key]) for key in {*keys.values()}])
    return entries


def find_vectors(root: Any) -> dict[str, View]:
    """The tensors that are the word's, by their names in the table that holds them."""
    if isinstance(root, View):
        return {ANY: root}
    items = to_items(root)
    for key in PARAMETERS:
        held = items.get(key)
        if isinstance(held, View):
            return {ANY: held}
        inside = to_parameters(held)
        if inside:
            return inside
    return {key: value for key, value in items.items() if isinstance(value, View)}


def to_parameters(held: Any) -> dict[str, View]:
    """Those of a table, or of a ParameterDict, which keeps them in its state."""
    state = held.state if isinstance(held, Inert) else None
    items = to_items(state.get("_parameters")) if isinstance(state, dict) else to_items(held)
    return {key: value for key, value in items.items() if isinstance(value, View)}
