"""Does a codec take the memory that its plan says? Predicted and measured peak of a fresh process, for every space, size and budget.

    python benchmarks/memory.py [--spaces NAME,...] [--sizes WIDTHxHEIGHT,...] [--memory 4GB,2GB] [--json FILE] [--quick]

A row is one encode or decode in a process of its own, with random weights of public width. The peak is what the kernel has marked as the
most resident memory during the run, all of Python and torch included. `--quick` takes the pocket space and small pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from codec_cases import OURS, PASSIVE, Case, to_space
from codec_duel import Lost, Setting, Worker, prepare, to_job
from codec_meter import measure, read_resident
from rich.console import Console
from rich.table import Table

from eightfold.core.errors import EightfoldError
from eightfold.core.files import write_atomically
from eightfold.families.spaces import SPACES

SPACES_WITH_WEIGHTS = [space.name for space in SPACES if space.marks]
SIZES = ["256x256", "512x512", "768x512", "1024x1024", "1536x1024"]
SMALL = ["64x64", "128x128", "192x128"]
WAYS = ["encode", "decode"]
GB = 1e9
HEADER = ["", "", "size", "budget", "predicted GB", "measured GB", "of predicted", "predicted rise", "rise GB", "predicted s", "wall s", ""]


def measure_plan(job: dict[str, Any], load: Callable[..., Any]) -> dict[str, Any]:
    """One run of one codec in this process, beside its plan. `load` is that of `pipelines.bundle.load_autoencoder`.

    A codec that has no `plan` is measured alone; a budget that it refuses is told with its own words.
    """
    import torch

    way, width, height = job["way"], job["width"], job["height"]
    budget = {"memory": job["memory"]} if job["memory"] else {}
    try:
        codec = load(job["weights"], space=job["space"], **budget)
        plan = codec.plan(way, width, height) if hasattr(codec, "plan") else None
        channels, downscale = codec.space.channels, codec.space.downscale
        shape = (1, 3, height, width) if way == "encode" else (1, channels, height // downscale, width // downscale)
        given = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        run = (lambda: codec.encode(given.clamp(-1, 1))) if way == "encode" else (lambda: codec.decode_raw(given))
        _, figures = measure(run, idle=read_resident())
    except EightfoldError as error:
        return {"refused": str(error)}
    predicted = {} if plan is None else {"peak": plan.peak_bytes, "rise": plan.rise_bytes, "seconds": plan.seconds}
    return {**figures, "predicted": predicted}


def judge(row: dict[str, Any]) -> str:
    """What is wrong with a row, in words; nothing where the plan held."""
    predicted, peak = row.get("predicted", {}).get("peak"), row.get("peak")
    budget = to_bytes(row["memory"])
    if "refused" in row:
        return f"refused: {row['refused']}"
    if peak is None or predicted is None:
        return "no plan" if peak is not None else "no memory figures on this system"
    wrong = [*(["above its plan"] if peak > predicted else []), *(["above its budget"] if budget and peak > budget else [])]
    return ", ".join(wrong)


def to_bytes(text: str | None) -> float | None:
    """4GB -> 4e9. None for no budget, and for what only the codec can read."""
    units = {"KB": 1e3, "MB": 1e6, "GB": 1e9}
    number, unit = (text[:-2], text[-2:].upper()) if text else ("", "")
    return float(number) * units[unit] if unit in units else None


def to_case(space: str, way: str) -> Case:
    """A case whose weights are those of codec.py; its input, drawn where it is used, is not."""
    return Case(space=space, way=way, side=to_space(space).latent_downscale)


def run_apart(setting: Setting, space: str, way: str, size: str, memory: str | None) -> dict[str, Any]:
    width, height = (int(side) for side in size.split("x"))
    job = {**to_job(to_case(space, way), OURS, setting), "width": width, "height": height, "memory": memory}
    row = {"space": space, "way": way, "size": size, "memory": memory}
    worker = None
    try:
        worker = Worker(job, python=setting.interpreter, wait=PASSIVE, folder=setting.folder, script=Path(__file__))
        return row | worker.ready
    except Lost as error:
        return row | {"refused": f"the process was lost: {error}"}
    finally:
        if worker is not None:
            worker.end()


def work(path: Path) -> None:
    """What the fresh process does."""
    import torch

    from eightfold.pipelines.bundle import load_autoencoder

    job = json.loads(path.read_text())
    torch.set_num_threads(job["threads"])
    sys.stdout.write(json.dumps(measure_plan(job, load_autoencoder)) + "\n")


def to_cells(row: dict[str, Any]) -> list[str]:
    """The cells under HEADER."""
    predicted, peak, rise = row.get("predicted", {}), row.get("peak"), row.get("rise")

    def show(value: float | None, unit: float = GB) -> str:
        return "" if value is None else f"{value / unit:.2f}"

    share = "" if not peak or not predicted else f"{100 * peak / predicted['peak']:.0f} %"
    start = [row["space"], row["way"], row["size"], row["memory"] or ""]
    memory = [show(predicted.get("peak")), show(peak), share, show(predicted.get("rise")), show(rise)]
    return [*start, *memory, show(predicted.get("seconds"), 1), show(row.get("wall"), 1), judge(row)]


def print_table(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table()
    for index, name in enumerate(HEADER):
        table.add_column(name, justify="left" if index in (0, 1, 11) else "right", no_wrap=index < 11)
    for row in rows:
        table.add_row(*to_cells(row))
    console.print(table)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", help=f"by default all: {','.join(SPACES_WITH_WEIGHTS)}")
    parser.add_argument("--sizes", help=f"by default {','.join(SIZES)}")
    parser.add_argument("--ways", default=",".join(WAYS), help="encode, decode or both")
    parser.add_argument("--memory", help="budgets to try besides none, as the codec takes them: 4GB,2GB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the pocket space and small pictures")
    parser.add_argument("--json", help="also write the figures to this file")
    return parser


def main() -> None:
    if len(sys.argv) == 2 and sys.argv[1].endswith("job.json"):
        return work(Path(sys.argv[1]))
    parser, console = build_parser(), Console()
    options, console.width = parser.parse_args(), max(console.width, 150)
    spaces = (options.spaces or ("pocket" if options.quick else ",".join(SPACES_WITH_WEIGHTS))).split(",")
    sizes = (options.sizes or ",".join(SMALL if options.quick else SIZES)).split(",")
    unknown = [*({*spaces} - {*SPACES_WITH_WEIGHTS}), *({*options.ways.split(",")} - {*WAYS})]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}")
    budgets = [None, *(options.memory.split(",") if options.memory else [])]
    rows: list[dict[str, Any]] = []
    for space in spaces:
        with tempfile.TemporaryDirectory(prefix="eightfold-memory-") as folder:  # one space's weights at a time
            setting = Setting(threads=options.threads, folder=Path(folder), interpreter=sys.executable, peer=sys.executable)
            prepare(to_case(space, "decode"), setting)
            for way, size, memory in product(options.ways.split(","), sizes, budgets):
                console.print(f"[dim]{space} {way} {size} {memory or ''}[/dim]")
                rows.append(run_apart(setting, space, way, size, memory))
    print_table(rows, console)
    if options.json:
        with write_atomically(options.json, overwrite=True) as temporary:
            temporary.write_text(json.dumps({"threads": options.threads, "rows": rows}, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
