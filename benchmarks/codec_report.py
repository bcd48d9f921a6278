"""What is made of the runs: medians, ratios with the foreign load beside them, tables and a plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codec_cases import OURS
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from eightfold.core.errors import EightfoldError
from eightfold.core.files import write_atomically

DISTURBED = 0.1  # of one core, on average over a contestant's runs
INSIDE = "attention"
HEADER = ["", "wall s", "CPU s", "peak GB", "rise GB", "CPU ratio", "wall ratio", "foreign load", "largest error", "PSNR dB"]

Figures = Mapping[str, Any]


def to_medians(runs: Sequence[Figures]) -> dict[str, float]:
    """The median of each figure, and of what is left of each run's seconds without the attention where that was timed."""
    rows = [{name: value for name, value in run.items() if value is not None} for run in runs]
    for row in rows:
        for unit in ("wall", "cpu"):
            if f"{INSIDE} {unit}" in row:
                row[f"{unit} outside {INSIDE}"] = row[unit] - row[f"{INSIDE} {unit}"]
    shared = [name for name in rows[0] if all(name in row for row in rows)] if rows else []
    return {name: statistics.median(row[name] for row in rows) for name in shared}


def to_load(runs: Sequence[Figures]) -> float | None:
    """CPU seconds of all others a second of these runs: 1 is one core."""
    if not runs or any(run["foreign"] is None for run in runs):
        return None
    return sum(run["foreign"] for run in runs) / sum(run["wall"] for run in runs)


def summarise(contestants: Mapping[str, Figures]) -> dict[str, Any]:
    """Medians and load of each contestant, and how many times more each peer takes than ours does.

    A ratio of wall seconds is disturbed where the foreign load of either of the two was above a tenth of a core, or is not known.
    """
    done = {name: result["runs"] for name, result in contestants.items() if result.get("runs")}
    medians = {name: to_medians(runs) for name, runs in done.items()}
    loads = {name: to_load(runs) for name, runs in done.items()}
    ratios: dict[str, dict[str, Any]] = {}
    if OURS in medians:
        ours = medians[OURS]
        for name, theirs in medians.items():
            if name != OURS:
                units = [unit for unit in theirs if unit.startswith(("wall", "cpu")) and unit in ours]
                ratios[name] = {unit: theirs[unit] / max(ours[unit], 1e-9) for unit in units}
                both = (loads[name], loads[OURS])
                ratios[name]["foreign load"] = None if None in both else max(both)
                ratios[name]["disturbed"] = None in both or max(both) > DISTURBED
    return {"medians": medians, "foreign load": loads, "ratios": ratios}


def to_text(value: float | None, form: str) -> str:
    return "" if value is None or math.isnan(value) else form.format(value)


def to_row(name: str, case: Figures) -> list[str]:
    """The cells under HEADER."""
    result, medians, ratio = case["contestants"][name], case["medians"].get(name), case["ratios"].get(name, {})
    if medians is None:
        return [name, *[""] * (len(HEADER) - 1)]
    load = case["foreign load"].get(name)
    disturbed = " disturbed" if ratio.get("disturbed") else ""
    return [
        name,
        f"{medians['wall']:.2f}",
        f"{medians['cpu']:.2f}",
        to_text(medians.get("peak", math.nan) / 1e9, "{:.2f}"),
        to_text(medians.get("rise", math.nan) / 1e9, "{:.2f}"),
        to_text(ratio.get("cpu"), "{:.2f}"),
        to_text(ratio.get("wall"), "{:.2f}") + disturbed,
        to_text(None if load is None else 100 * load, "{:.0f} %"),
        "none" if result.get("largest error") == 0 else to_text(result.get("largest error"), "{:.1e}"),
        to_text(result.get("PSNR"), "{:.0f}"),
    ]


def list_failed(case: Figures) -> dict[str, str]:
    return {name: result["failed"] for name, result in case["contestants"].items() if "failed" in result}


def to_outside(case: Figures) -> list[str]:
    """What is left without the attention, a line for each contestant whose attention was timed."""
    lines = []
    for name, medians in case["medians"].items():
        if f"wall outside {INSIDE}" in medians:
            ratio = case["ratios"].get(name, {})
            times = f"{medians[f'wall outside {INSIDE}']:.2f} s, CPU {medians[f'cpu outside {INSIDE}']:.2f} s"
            wall, cpu = ratio.get(f"wall outside {INSIDE}"), ratio.get(f"cpu outside {INSIDE}")
            disturbed = " disturbed" if ratio.get("disturbed") else ""
            lines.append(f"{name}: {times}" + ("" if cpu is None or wall is None else f", ratios {wall:.2f}{disturbed} and CPU {cpu:.2f}"))
    return lines


def print_tables(figures: Figures, console: Console) -> None:
    console.print(f"{figures['processor']}, {figures['cores']} cores, {figures['threads']} threads; ratios are theirs / ours")
    for name, reason in figures["absent"].items():
        console.print(f"{name} is absent, {reason}")
    for title, case in figures["cases"].items():
        table = Table(title=title, title_justify="left")
        for index, column in enumerate(HEADER):
            table.add_column(column, justify="right" if index else "left", no_wrap=True)
        for name in case["contestants"]:
            table.add_row(*to_row(name, case))
        console.print(table)
        for name, reason in list_failed(case).items():
            console.print(f"  {name} did not run: {reason}")
        for line in to_outside(case):
            console.print(f"  without its attention: {line}")


def to_markdown(figures: Figures) -> str:
    """One table of all cases."""
    rows = [["case", "", *HEADER[1:]]]
    rows += [[title, *to_row(name, case)] for title, case in figures["cases"].items() for name in case["contestants"]]
    rule = ["---", "---", *["---:"] * (len(HEADER) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def to_outside_markdown(figures: Figures) -> str:
    rows = [["case", "", "wall s", "CPU s", "share of its wall s", "CPU ratio", "wall ratio"]]
    for title, case in figures["cases"].items():
        for name, found in case["medians"].items():
            if f"wall outside {INSIDE}" in found:
                ratio = case["ratios"].get(name, {})
                wall, cpu = found[f"wall outside {INSIDE}"], found[f"cpu outside {INSIDE}"]
                ratios = [to_text(ratio.get(f"{unit} outside {INSIDE}"), "{:.2f}") for unit in ("cpu", "wall")]
                ratios[1] += " disturbed" if ratio.get("disturbed") else ""
                rows.append([title, name, f"{wall:.2f}", f"{cpu:.2f}", f"{100 * wall / found['wall']:.0f} %", *ratios])
    rule = ["---", "---", *["---:"] * 5]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def to_machine(figures: Figures) -> str:
    versions = {name: one for case in figures["cases"].values() for result in case["contestants"].values()
                for name, one in result.get("versions", {}).items()}  # fmt: skip
    waits = {name: result["wait"] for case in figures["cases"].values() for name, result in case["contestants"].items() if "wait" in result}
    told = "; ".join(f"{name}: {wait}" for name, wait in waits.items())
    absent = "".join(f" Absent: {name} ({reason})." for name, reason in figures["absent"].items())
    packages = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    failed = "".join(f" {name} did not run {title}: {reason}."
                     for title, case in figures["cases"].items() for name, reason in list_failed(case).items())  # fmt: skip
    machine = f"{figures['processor']}, {figures['cores']} cores, {figures['threads']} threads"
    return f"{machine}{'; ' if packages else ''}{packages}. How threads wait: {told}.{absent}{failed}"


def fill_page(path: Path, figures: Figures, about: str = "codec") -> None:
    """Put tables and machine between the markers that carry their names: `about` and what they show.

    Raises EightfoldError where the page has no such place.
    """
    text = path.read_text(encoding="utf-8")
    parts = {"": to_markdown(figures), "-outside-attention": to_outside_markdown(figures), "-machine": to_machine(figures)}
    for suffix, part in parts.items():
        name = about + suffix
        begin, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise EightfoldError(f"{path} has no place for {name}", hint=f"write {begin.strip()} and {end} on lines of their own")
        text = f"{before}{begin}\n{part}\n\n{end}{after}"
    with write_atomically(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


WIDTH, LINE, LEFT, RIGHT, TOP = 900, 24, 330, 90, 50
PAPER, INK, FAINT = "white", (32, 32, 36), (225, 225, 230)
COLOURS = {OURS: (211, 47, 102)}
OTHERS = [(40, 27, 66), (88, 35, 111), (154, 142, 170), (254, 146, 82)]


def draw_plot(figures: Figures) -> Image.Image:
    """Bars of CPU seconds as multiples of ours, a group for each case."""
    groups = {
        title: {name: found["cpu"] / case["medians"][OURS]["cpu"] for name, found in case["medians"].items()}
        for title, case in figures["cases"].items()
        if OURS in case["medians"]
    }
    most = max((value for group in groups.values() for value in group.values()), default=1.0)
    names = [name for name in dict.fromkeys(name for group in groups.values() for name in group) if name != OURS]
    colours = COLOURS | {name: OTHERS[index % len(OTHERS)] for index, name in enumerate(names)}
    height = TOP + sum(LINE * len(group) + LINE for group in groups.values()) + 10
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    pen.text((12, 12), f"CPU seconds as multiples of ours, {figures['threads']} threads, float32", fill=INK, font=font)
    scale = (WIDTH - LEFT - RIGHT) / most
    for tick in range(int(most) + 1):
        pen.line((LEFT + tick * scale, TOP - 6, LEFT + tick * scale, height - 10), fill=FAINT)
    y = TOP
    for title, group in groups.items():
        pen.text((12, y), title, fill=INK, font=font)
        for name, value in group.items():
            pen.text((LEFT - 10, y), name, fill=INK, font=font, anchor="ra")
            pen.rectangle((LEFT, y + 1, LEFT + value * scale, y + LINE - 6), fill=colours[name])
            pen.text((LEFT + value * scale + 8, y), f"{value:.2f}", fill=INK, font=font)
            y += LINE
        y += LINE
    return picture
