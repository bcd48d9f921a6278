"""eightfold models: what is in a folder, and what goes with what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.memory import to_amount
from ..core.progress import Progress
from .console import Outcome, show_progress
from .options import Flag

if TYPE_CHECKING:
    from ..pipelines.shelf import Item


def models(folder: Path = Path(), /, *, json: Flag = False) -> int:
    """What weight files a folder holds, and which autoencoders go with which models.

    Parameters
    ----------
    folder
        Searched with all folders in it; the current one unless given.
    json
        Print one record a file as JSON.
    """
    from ..pipelines.shelf import find_partners, list_items
    from .identify import name_it

    items: list[Item] = []
    with show_progress() as update:
        for item in list_items(folder):
            items.append(item)
            update(Progress(task="models", number=len(items), total=len(items)))
    outcome = Outcome()
    for item in find_partners(items):
        record, lines = to_record(item), to_lines(item, folder)
        autoencoder = item.find("autoencoder")
        if autoencoder is not None:
            lines += [f"  autoencoder {text}" for text in name_it(item.path, autoencoder, record)]
        outcome.add(record, "\n".join(lines), as_json=json)
    return outcome.finish(as_json=json)


def to_record(item: Item) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "path": str(item.path),
        "bytes": item.bytes,
        "components": [asdict(one) for one in item.components],
        "draws": item.draws,
        "lacks": list(item.lacks),
        "fits": [str(path) for path in item.fits],
        "problem": item.problem,
    }


def to_lines(item: Item, folder: Path) -> list[str]:
    from .identify import describe

    def name(path: Path) -> str:
        return str(path.relative_to(folder)) if path.is_relative_to(folder) and path != folder else str(path)

    lines = [f"{name(item.path)}  {to_amount(item.bytes)}"]
    if item.problem:
        return [*lines, f"  {item.problem}"]
    lines += [f"  {one.component}: {describe(one)}" for one in item.components if one.component not in ("average", "training")]
    if item.find("denoiser") is not None and not item.draws:
        lines.append("  known, and cannot draw here")
    if item.lacks:
        lines.append(f"  has no {' and no '.join(item.lacks)}")
    if item.fits:
        lines.append(f"  goes with {', '.join(name(path) for path in item.fits)}")
    return lines
