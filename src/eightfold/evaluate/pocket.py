"""Everything that is measured of a pocket model, one figure after the other, each kept under the name of all it depends on."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..codec.pixels import from_bytes, write_picture
from ..core.errors import CheckpointError, RequestError
from ..core.files import write_atomically
from ..core.progress import Progress
from ..core.versions import read_versions
from ..data.pictures import VERSION as RENDERER
from ..families.pocket import POCKET_FAMILY
from ..pipelines.bundle import Model
from ..pipelines.sheet import to_sheet
from .asked import Asked, describe
from .drawing import VERSION as DRAWER
from .drawing import Drawing, read_images, to_key, to_model_key
from .generated import (
    list_prompts,
    list_relations,
    measure_frechet,
    measure_prompts,
    measure_relations,
    measure_seconds,
    measure_sizes,
)
from .judge import JudgeConfig, load_judge
from .judging import train_judge
from .renders import (
    Amounts,
    Bench,
    Figure,
    find_in,
    measure_judge,
    measure_photographs,
    measure_reconstructions,
    measure_scenes,
    read_photographs,
)

VERSION = 1  # raise it when a figure is measured in another way
REPORT, SHEETS = "report.json", ("prompts.png", "relations.png")
SHOWN, COLUMNS = 24, 8
DEFAULT_AMOUNTS, DEFAULT_JUDGE = Amounts(), JudgeConfig()

MEASURES: dict[str, Callable[[Bench], Figure]] = {
    "judge": measure_judge,
    "scenes": measure_scenes,
    "photographs": measure_photographs,
    "reconstructions": measure_reconstructions,
    "prompts": measure_prompts,
    "relations": measure_relations,
    "sizes": measure_sizes,
    "frechet": measure_frechet,
}


def evaluate_pocket(
    model: Model, folder: Path, *, amounts: Amounts = DEFAULT_AMOUNTS, judge: JudgeConfig = DEFAULT_JUDGE
) -> Iterator[Progress]:
    """Measure `model` and write `report.json`, `prompts.png` and `relations.png` into `folder`; `read_report` reads the figures.

    What an earlier run left in the folder is used, so an interrupted run goes on. Raises RequestError for another family or an
    impossible count, and EightfoldError without scikit-image, before any work; CheckpointError for a damaged cache.
    """
    check_model(model)
    check_pictures(amounts.pictures)
    read_photographs()
    return measure_all(model, folder, amounts, judge)


def check_pictures(pictures: int) -> None:
    """Raise a RequestError unless a Fréchet distance can be measured on so many pictures, or is left out."""
    if pictures < 0 or pictures == 1:
        raise RequestError(
            f"{pictures} pictures for the Fréchet distance: expected 2 or more, or 0 to leave it out", hint="--pictures 5000"
        )


def check_model(model: Model) -> None:
    if model.family.name != POCKET_FAMILY.name:
        what = f"{model.source} is of the family {model.family.name}; only {POCKET_FAMILY.name} draws the solids that are measured here"
        raise RequestError(what, hint="--model pocket")
    if model.placement.device.type != "cpu":
        raise RequestError(f"the model is on {model.placement.device}; figures are measured on the CPU", hint='load(..., device="cpu")')


def measure_all(model: Model, folder: Path, amounts: Amounts, config: JudgeConfig) -> Iterator[Progress]:
    yield from train_judge(folder, config)
    bench = Bench(model=model, judge=load_judge(folder, config), folder=folder, amounts=amounts)
    report: dict[str, Any] = {"model": model.family.name, "fingerprint": model.fingerprint, "versions": read_versions()}
    for name, measure in MEASURES.items():
        if name != "frechet" or amounts.pictures:
            report[name] = yield from remember(bench, name, measure)
    yield Progress(task="seconds a picture", number=0, total=1)
    report["seconds"] = measure_seconds(bench)
    for path, listed in zip(SHEETS, (list_prompts(bench), list_relations(bench)), strict=True):
        write_sheet(bench, folder / path, *listed)
    with write_atomically(folder / REPORT, overwrite=True) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    yield Progress(task="seconds a picture", number=1, total=1)


def read_report(folder: Path) -> dict[str, Any]:
    """What the last whole run in `folder` measured."""
    return read_json(folder / REPORT)


def figure_path(bench: Bench, name: str) -> Path:
    """Where a figure is kept: under the name of the weights, the judge, the counts, the code and the versions behind it."""
    amounts = asdict(replace(bench.amounts, timed=0, pictures=bench.amounts.pictures if name == "frechet" else 0))
    return bench.folder / f"{name}-{to_key(VERSION, RENDERER, DRAWER, to_model_key(bench.model), bench.judge.key, amounts)}.json"


def remember(bench: Bench, name: str, measure: Callable[[Bench], Figure]) -> Generator[Progress, None, dict[str, Any]]:
    """The figure from its file, or measured and written there."""
    path = figure_path(bench, name)
    if path.exists():
        return read_json(path)
    figure = yield from measure(bench)
    with write_atomically(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(figure, indent=2) + "\n", encoding="utf-8")
    return figure


def read_json(path: Path) -> dict[str, Any]:
    """Raises CheckpointError for a file that holds no table."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise ValueError("no table")
    except (OSError, ValueError):
        raise CheckpointError(f"{path} is damaged", hint="remove it: it is measured again") from None
    return table


def write_sheet(bench: Bench, path: Path, asked: list[Asked], drawings: list[Drawing]) -> None:
    """The first pictures, each with its prompt and what the judge found."""
    pixels = read_images(bench.model, drawings, bench.folder)[:SHOWN]
    labels = [f"{one.prompt}: {describe(findings)}" for one, findings in zip(asked, find_in(bench.judge, pixels), strict=False)]
    write_picture(path, to_sheet(from_bytes(pixels).split(1), columns=COLUMNS, labels=labels), overwrite=True)
