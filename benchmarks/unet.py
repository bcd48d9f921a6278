"""One step of a U-Net: ours against diffusers, with the same random weights on the same input, in float32.

    python benchmarks/unet.py [--quick] [--cases NAME,...] [--contestants NAME,...] [--threads N] [--repeats N] [--json FILE] [--page FILE]

Every contestant lives in a process of its own and they run in turn, as in `codec.py`; with `--alone` one after the other, where their
weights do not fit into memory together. What bounds a step of Stable Diffusion 1.5 at 64x64: of about 790 GFLOP
395 are 3x3 convolutions with stride 1, which can be made with a quarter to a third of the multiplications; 276 are linear maps and some 120
attention, which cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from codec_duel import Lost, Worker
from codec_report import fill_page, print_tables, summarise
from rich.console import Console

from codec import count_cores, name_processor
from eightfold.core.files import write_atomically
from eightfold.families.sd1 import SD1
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.specs.network import UNetConfig

WORKER = Path(__file__).with_name("unet_worker.py")
CONTESTANTS = ("ours", "diffusers", "diffusers channels-last")
TOY = replace(SD1.denoiser, width=32, context=24, heads=2, multipliers=(1, 2), attention=(1, 0))


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    config: UNetConfig
    side: int = 64
    batch: int = 1
    default: bool = True

    def to_job(self, contestant: str, threads: int) -> dict[str, Any]:
        config = asdict(self.config)
        vector = config.pop("vector")
        return {"contestant": contestant, "threads": threads, "side": self.side, "batch": self.batch, "config": config, "vector": vector}


CASES = (
    Case(name="sd1-64", config=SD1.denoiser),
    Case(name="sd1-64-batch-2", config=SD1.denoiser, batch=2),
    Case(name="sdxl-64", config=SDXL_FAMILY.denoiser, default=False),
)
QUICK = (Case(name="toy-16", config=TOY, side=16),)


def open_worker(case: Case, name: str, threads: int, folder: Path) -> tuple[Worker, dict[str, Any]]:
    """Loaded and warmed up twice, with what it answered."""
    worker = Worker(case.to_job(name, threads), python=sys.executable, wait="PASSIVE", folder=folder, script=WORKER)
    found = {"wait": "PASSIVE", **worker.ready, "warm-up": worker.ask("run"), "second": worker.ask("run"), "runs": []}
    worker.ask(f"save {folder / f'{name}.npy'}")
    return worker, found


def fight(case: Case, names: list[str], options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Every contestant's runs, in turn and every other round backwards; with `--alone` each by itself."""
    results: dict[str, dict[str, Any]] = {}
    for group in [[name] for name in names] if options.alone else [names]:
        workers: dict[str, Worker] = {}
        try:
            for name in group:
                try:
                    workers[name], results[name] = open_worker(case, name, options.threads, folder)
                except Lost as error:
                    results[name] = {"failed": str(error)}
            for number in range(options.repeats):
                for name in list(workers) if number % 2 == 0 else list(workers)[::-1]:
                    try:
                        results[name]["runs"].append(workers[name].ask("run"))
                    except Lost as error:  # one who fails is out, and the others go on
                        results[name] = {"failed": str(error)}
                        workers.pop(name).end()
        finally:
            for worker in workers.values():
                worker.end()
    reference = folder / "diffusers.npy"
    for name, result in results.items():
        if name != "diffusers" and "failed" not in result and reference.exists():
            result["largest error"] = float(np.abs(np.load(folder / f"{name}.npy").astype(np.float64) - np.load(reference)).max())
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a toy network, one round")
    parser.add_argument("--cases", help=f"by default those of Stable Diffusion 1.5; there are {', '.join(case.name for case in CASES)}")
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--threads", type=int, default=count_cores())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="never two contestants in memory")
    parser.add_argument("--json", help="write all figures to this file")
    parser.add_argument("--page", help="put the tables into this page, between their markers")
    options, console = parser.parse_args(), Console()
    console.width = max(console.width, 150)
    options.repeats = 1 if options.quick else options.repeats
    known = {case.name: case for case in (QUICK if options.quick else CASES)}
    wanted = options.cases.split(",") if options.cases else [case.name for case in known.values() if case.default]
    names = options.contestants.split(",")
    if unknown := [name for name in wanted if name not in known] + [name for name in names if name not in CONTESTANTS]:
        parser.error(f"not known: {', '.join(unknown)}")
    figures: dict[str, Any] = {"threads": options.threads, "cores": count_cores(), "processor": name_processor()}
    figures |= {"load before": os.getloadavg()[0], "absent": {}, "cases": {}}
    with tempfile.TemporaryDirectory(prefix="eightfold-unet-") as folder:
        for name in wanted:
            found = fight(known[name], names, options, Path(folder))
            figures["cases"][name] = {"contestants": found, **summarise(found)}
    print_tables(figures, console)
    if options.page:
        fill_page(Path(options.page), figures, "unet")
    if options.json:
        with write_atomically(options.json, overwrite=True) as temporary:
            temporary.write_text(json.dumps({**figures, "load after": os.getloadavg()[0]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
