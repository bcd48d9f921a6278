"""eightfold evaluate: how good a model is, in figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from .console import DONE, say, say_json, show_loading, show_progress
from .options import Flag, Whole, refuse_folder

app = App(name="evaluate", help="Measure how good a model is.")


@app.command
def pocket(*, model: str = "pocket", out: Path = Path("runs/evaluate-pocket"), pictures: Whole = 5000, json: Flag = False) -> int:
    """Round trips, prompts, relations and likeness to renders, judged by a network that is trained first; on the CPU, in float32.

    An interrupted run goes on where it stopped, and a second run reads what the first measured. Needs the demo extra.

    Parameters
    ----------
    model
        A model's name (pocket) or file, of the pocket family.
    out
        The folder of the report, of two sheets of pictures and of everything drawn on the way.
    pictures
        Pictures of the Fréchet distance; most of the time goes there. 0 leaves it out.
    json
        Print the report as JSON.
    """
    from ..evaluate.pocket import REPORT, SHEETS, check_pictures

    check_pictures(pictures)
    for name in (REPORT, *SHEETS):
        refuse_folder(out / name)
    with show_loading(model):
        from ..evaluate.pocket import evaluate_pocket, read_report
        from ..evaluate.renders import Amounts
        from ..pipelines.bundle import load

        loaded = load(model, device="cpu", dtype="float32")
    with show_progress() as update:
        for progress in evaluate_pocket(loaded, out, amounts=Amounts(pictures=pictures)):
            update(progress)
    report = read_report(out)
    if json:
        say_json({**report, "path": str(out / REPORT)})
    else:
        rows = to_rows(report)
        left = max(len(name) for name, _ in rows) + 2
        say("\n".join(name.ljust(left) + value for name, value in rows))
        say(str(out / REPORT))
    return DONE


def to_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The report as figure and value, one a line; pairs and confusions stay in the file."""
    judge, prompts, relations = report["judge"], report["prompts"], report["relations"]
    rows = [
        ("judge on renders: colour, shape", to_shares(judge["colour"], judge["shape"])),
        ("judge on renders: count of 1, 2, 3", to_shares(*judge["count"].values())),
        ("judge on renders: both of two, relation", to_shares(judge["all kinds of two"], judge["relation of two"]["found"])),
        (f"PSNR of {report['scenes']['pictures']} scenes", f"{report['scenes']['psnr']:.2f} dB"),
        *((f"PSNR of {name}", f"{value:.2f} dB") for name, value in report["photographs"]["psnr"].items()),
        ("PSNR of photographs, mean", f"{report['photographs']['mean']:.2f} dB"),
    ]
    for name, kinds in report["reconstructions"].items():
        if name != "pictures":
            rows.append((f"solids in {name}: colour, shape", to_shares(kinds["colour"], kinds["shape"])))
    rows += [
        (f"{prompts['prompts']} prompts: colour, shape, both", to_shares(prompts["colour"], prompts["shape"], prompts["both"])),
        (f"{prompts['prompts']} prompts: exactly one solid", to_shares(prompts["exactly one"])),
        (f"{prompts['prompts']} prompts: least right pairs", name_weakest(prompts["pairs"])),
        (f"{relations['prompts']} relations: count", to_shares(relations["count"])),
        (f"{relations['prompts']} relations: both solids", to_shares(relations["both solids"])),
        (f"{relations['prompts']} relations: both solids and relation", to_shares(relations["both solids and relation"])),
        (f"{relations['prompts']} relations: all right", to_shares(relations["all"])),
    ]
    for name, figure in report["sizes"].items():
        if name != "prompts":
            rows.append((f"solids at {name}", f"{figure['mean count']:.2f}, exactly one {to_shares(figure['exactly one'])}"))
    if "frechet" in report:
        frechet = report["frechet"]
        rows.append((f"Fréchet distance, {frechet['pictures']} pictures", f"{frechet['generated']:.4g} (renders {frechet['renders']:.4g})"))
    return [*rows, to_time(report["seconds"])]


def to_time(seconds: dict[str, Any]) -> tuple[str, str]:
    load = "" if seconds["load"] is None else f", load {seconds['load']:.1f}"
    return "seconds a picture", f"{seconds['median']:.2f} ({seconds['threads']} threads{load})"


def name_weakest(pairs: dict[str, dict[str, float]], most: int = 3) -> str:
    weakest = sorted(pairs, key=lambda name: pairs[name]["both"])[:most]
    return ", ".join(f"{name} {to_shares(pairs[name]['both'])}" for name in weakest)


def to_shares(*values: float) -> str:
    return ", ".join(f"{100 * value:.1f} %" for value in values)
