"""How long a command takes from a cold process to its first step, and what of that is imports.

    python benchmarks/cold_start.py [--runs 9] [--imports] [--json FILE] [-- ARGUMENTS of eightfold generate]

A run is a process of its own that ends at the first step; importing diffusers' pipeline alone, where it is installed, is measured in turn
with it. Medians. The files are in the system's memory from the first run on: what is cold is the process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

PROBE = """
import os, sys, time
from eightfold.cli import keeper

def end(self, run):
    next(run)
    sys.stdout.write(repr(time.time()))
    sys.stdout.flush()
    os._exit(0)

keeper.Keeper.watch = end
from eightfold.cli.main import main
main()
"""
PEER = "import sys, time; from diffusers import StableDiffusionPipeline; sys.stdout.write(repr(time.time()))"
COMMAND = ("a red cube", "--seed", "1")
LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|(\s+)([\w.]+)")
SHOWN = 12


class Start(NamedTuple):
    """One process: the time until it said what time it is, all of its processor's time, and what it wrote to standard error."""

    wall: float
    cpu: float
    errors: str


def start(code: str, arguments: list[str], folder: str, *options: str) -> Start:
    command = [sys.executable, *options, "-c", code, *arguments]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled
    before, begin = count_cpu(), time.time()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return Start(float(done.stdout) - begin, count_cpu() - before, done.stderr)


def count_cpu() -> float:
    """Seconds of all processes that have ended."""
    used = os.times()
    return used.children_user + used.children_system


def count_imports(text: str) -> Counter[str]:
    """Seconds that the modules of each package took themselves, from what `-X importtime` writes."""
    found: Counter[str] = Counter()
    for own, _, _, name in LINE.findall(text):
        found[name.partition(".")[0]] += int(own) / 1e6
    return found


def summarise(some: list[Start]) -> dict[str, float]:
    """Medians, and the shortest and the longest time."""
    walls = [one.wall for one in some]
    figures = {"wall": median(walls), "least": min(walls), "most": max(walls), "cpu": median(one.cpu for one in some)}
    return {name: round(value, 3) for name, value in figures.items()}


def print_imports(counts: Counter[str], console: Console) -> None:
    table = Table("package", "seconds of imports")
    for name, seconds in counts.most_common(SHOWN):
        table.add_row(name, f"{seconds:.3f}")
    table.add_row("all", f"{sum(counts.values()):.3f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--imports", action="store_true", help="one run more, which tells what was imported")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("arguments", nargs="*", help="of eightfold generate, behind --")
    options, console = parser.parse_args(), Console()
    arguments = ["generate", *(options.arguments or COMMAND)]
    codes = {"first step": (PROBE, arguments)} | ({"import diffusers": (PEER, [])} if find_spec("diffusers") else {})
    runs: dict[str, list[Start]] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory(prefix="eightfold-cold-") as folder:
        for code, given in codes.values():
            start(code, given, folder)  # reads the files
        for _ in range(options.runs):
            for name, (code, given) in codes.items():
                runs[name].append(start(code, given, folder))
        counts = count_imports(start(PROBE, arguments, folder, "-X", "importtime").errors) if options.imports else Counter()
    figures = {name: summarise(some) for name, some in runs.items()}
    for name, one in figures.items():
        console.print(f"{name}: {one['wall']:.2f} s ({one['least']:.2f} to {one['most']:.2f}), {one['cpu']:.2f} s of CPU")
    if options.imports:
        print_imports(counts, console)
    if options.json:
        result = {"command": arguments, "runs": options.runs, "figures": figures, "imports": dict(counts.most_common(SHOWN))}
        options.json.write_text(json.dumps({**result, "cores": os.cpu_count(), "load": os.getloadavg()[0]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
