"""Whole autoencoders: ours against diffusers, OpenVINO and stable-diffusion.cpp, with the same random weights on the same input.

    python benchmarks/codec.py [--quick] [--cases NAME,...] [--json FILE] [--plot FILE] [--page FILE] [--from FILE]

Every contestant lives in a process of its own, and they run in turn; docs/performance.md says what is measured and how to read it.
`--quick` takes toy networks and small pictures. `--from` measures nothing and draws what an earlier `--json` wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from codec_cases import CASES, CONTESTANTS, OURS, QUICK, Case
from codec_duel import Setting, choose_waits, fight, find_absent, prepare
from codec_report import draw_plot, fill_page, print_tables, summarise
from rich.console import Console

from eightfold.core.files import write_atomically


def count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def name_processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def choose(wanted: str | None, known: dict[str, Any], default: list[str], parser: argparse.ArgumentParser, what: str) -> list[str]:
    names = default if wanted is None else [name.strip() for name in wanted.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no {what} {', '.join(unknown)}; there are: {', '.join(known)}")
    return names


def measure(cases: list[Case], names: list[str], setting: Setting, *, quick: bool, console: Console) -> dict[str, Any]:
    """Everything that was measured; see `codec_report.summarise` for what is made of it."""

    def say(text: str) -> None:
        console.print(f"[dim]{time.strftime('%H:%M:%S')} {text}[/dim]")

    absent = find_absent(setting, names)
    present = [name for name in names if name not in absent]
    figures: dict[str, Any] = {
        "threads": setting.threads,
        "cores": count_cores(),
        "processor": name_processor(),
        "load before": os.getloadavg()[0],
        "absent": absent,
        "cases": {},
    }
    for case in cases:
        say(f"{case.name}: weights and input")
        prepare(case, setting)
        if not quick and "ways of waiting, seconds" not in figures:
            figures["ways of waiting, seconds"] = choose_waits(case, present, setting, say)
        elif quick:
            setting.waits.update({name: CONTESTANTS[name].waits[-1] for name in present})
        found = fight(case, present, setting, say)
        figures["cases"][case.name] = {"contestants": found, **summarise(found)}
    return {**figures, "load after": os.getloadavg()[0]}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="toy networks, pictures of 128x128, one round")
    parser.add_argument("--cases", help=f"by default all but the largest: {', '.join(case.name for case in CASES)}")
    parser.add_argument("--contestants", help=f"by default all: {', '.join(CONTESTANTS)}")
    parser.add_argument("--threads", type=int, default=count_cores(), help="for every contestant; by default one a core")
    parser.add_argument("--repeats", type=int, help="runs of each contestant, instead of 3 to 5 as the case says")
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter that has OpenVINO, beside torch and diffusers")
    parser.add_argument("--from", dest="source", help="measure nothing, take the figures of this file")
    parser.add_argument("--json", help="write all figures to this file; cases that it has and that are not measured now stay")
    parser.add_argument("--plot", help="draw the CPU seconds of all as a PNG file")
    parser.add_argument("--page", help="put the table into this page, between its markers")
    return parser


def main() -> None:
    parser, console = build_parser(), Console()
    console.width = max(console.width, 150)  # a table that is cut off tells nothing
    options = parser.parse_args()
    if options.source:
        figures = json.loads(Path(options.source).read_text())
    else:
        known = {case.name: case for case in (QUICK if options.quick else CASES)}
        default = [case.name for case in known.values() if case.default]
        cases = [known[name] for name in choose(options.cases, known, default, parser, "case")]
        names = choose(options.contestants, CONTESTANTS, list(CONTESTANTS), parser, "contestant")
        if OURS not in names:
            parser.error(f"{OURS} has to be among the contestants: all are compared with it")
        with tempfile.TemporaryDirectory(prefix="eightfold-codec-") as folder:
            repeats = options.repeats or (1 if options.quick else None)
            setting = Setting(
                threads=options.threads, folder=Path(folder), interpreter=sys.executable, peer=options.peer_python, repeats=repeats
            )
            figures = measure(cases, names, setting, quick=options.quick, console=console)
    print_tables(figures, console)
    if options.json:
        if not options.source and Path(options.json).is_file():
            figures["cases"] = {**json.loads(Path(options.json).read_text())["cases"], **figures["cases"]}
        with write_atomically(options.json, overwrite=True) as temporary:
            temporary.write_text(json.dumps(figures, indent=1) + "\n")
    if options.plot:
        with write_atomically(options.plot, overwrite=True) as temporary:
            draw_plot(figures).save(temporary, "PNG", optimize=True)
    if options.page:
        fill_page(Path(options.page), figures)


if __name__ == "__main__":
    main()
