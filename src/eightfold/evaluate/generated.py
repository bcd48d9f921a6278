"""Figures on pictures that the model draws from prompts: kinds, counts and relations, likeness to renders, seconds."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Generator, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..codec.pixels import from_bytes
from ..core.progress import Progress
from ..data.scenes import draw_scene
from ..data.solids import SHAPES
from ..metrics.frechet import frechet_distance
from ..pipelines.request import Request
from .asked import PAIRS, RELATIONS, Asked, ask_for_one, ask_for_two, judge_picture, name_pair
from .drawing import Drawing, draw_images, read_images
from .judge import Finding, Judge, features
from .renders import HELD_OUT, Bench, Figure, draw_held_out, find_in, share

COUNTS = (0.65, 0.25, 0.1)  # shares of one, two and three solids in what the denoiser is trained on
FIRST, SECOND = HELD_OUT + 1, HELD_OUT + 2  # seeds of the two sets of renders of the Fréchet distance
ONE, TWO, SIZES = 1000, 2000, 3000  # first seeds of the drawings
NOTHING = "nothing"
PASSES = {"128x128": (128, 1), "256x256": (256, 1), "256x256 in two passes": (256, 2)}


def to_drawings(asked: Sequence[Asked], seed: int, *, size: int = 128, passes: int = 1) -> list[Drawing]:
    return [Drawing(prompt=one.prompt, seed=seed + number, size=size, passes=passes) for number, one in enumerate(asked)]


def draw_judged(
    bench: Bench, drawings: Sequence[Drawing], task: str
) -> Generator[Progress, None, tuple[UInt8[Tensor, "n 3 h w"], list[list[Finding]]]]:
    """The pictures, drawn or read, and what the judge finds in each."""
    yield from draw_images(bench.model, drawings, bench.folder, task)
    pixels = read_images(bench.model, drawings, bench.folder)
    return pixels, find_in(bench.judge, pixels)


def list_prompts(bench: Bench) -> tuple[list[Asked], list[Drawing]]:
    asked = ask_for_one(bench.amounts.prompts, HELD_OUT)
    return asked, to_drawings(asked, ONE)


def list_relations(bench: Bench) -> tuple[list[Asked], list[Drawing]]:
    asked = ask_for_two(bench.amounts.relations, HELD_OUT)
    return asked, to_drawings(asked, TWO)


def measure_prompts(bench: Bench) -> Figure:
    """Prompts for one solid, stratified over all pairs of colour and shape; a picture is judged by its surest finding."""
    asked, drawings = list_prompts(bench)
    _, found = yield from draw_judged(bench, drawings, "prompts")
    return score_prompts(asked, found)


def score_prompts(asked: Sequence[Asked], found: Sequence[Sequence[Finding]]) -> dict[str, object]:
    """Shares of right colours, shapes, both and single solids, both for each pair, and shapes asked for against shapes found."""
    surest = [(findings[0].colour, findings[0].shape) if findings else (NOTHING, NOTHING) for findings in found]
    wanted = [one.solids[0] for one in asked]
    both = [got == want for got, want in zip(surest, wanted, strict=True)]
    confusion: dict[str, dict[str, int]] = {shape: dict.fromkeys((*SHAPES, NOTHING), 0) for shape in SHAPES}
    for got, want in zip(surest, wanted, strict=True):
        confusion[want[1]][got[1]] += 1
    pairs = {name_pair(pair): [hit for hit, want in zip(both, wanted, strict=True) if want == pair] for pair in PAIRS}
    return {
        "prompts": len(asked),
        "colour": share([got[0] == want[0] for got, want in zip(surest, wanted, strict=True)]),
        "shape": share([got[1] == want[1] for got, want in zip(surest, wanted, strict=True)]),
        "both": share(both),
        "exactly one": share([len(findings) == 1 for findings in found]),
        "shapes asked and found": confusion,
        "pairs": {name: {"prompts": len(hits), "both": share(hits)} for name, hits in pairs.items() if hits},
    }


def measure_relations(bench: Bench) -> Figure:
    """Prompts for two solids, one of four relations between them."""
    asked, drawings = list_relations(bench)
    _, found = yield from draw_judged(bench, drawings, "relations")
    return score_relations(asked, found)


def score_relations(asked: Sequence[Asked], found: Sequence[Sequence[Finding]]) -> dict[str, object]:
    """Shares of right counts, of both solids there, of relations that hold as well, and of all at once."""
    verdicts = [judge_picture(one, findings) for one, findings in zip(asked, found, strict=True)]
    by_relation = {name: [verdict for one, verdict in zip(asked, verdicts, strict=True) if one.relation == name] for name in RELATIONS}
    return {
        "prompts": len(asked),
        "count": share([verdict.count for verdict in verdicts]),
        "both solids": share([verdict.solids for verdict in verdicts]),
        "both solids and relation": share([verdict.relation for verdict in verdicts]),
        "relation where both are there": share([verdict.relation for verdict in verdicts if verdict.solids]),
        "all": share([verdict.all for verdict in verdicts]),
        "all by relation": {name: share([verdict.all for verdict in own]) for name, own in by_relation.items()},
    }


def measure_frechet(bench: Bench) -> Figure:
    """Pictures of held-out captions against other renders, and renders of those captions against the same; all 32 pairs may occur."""
    count = bench.amounts.pictures
    captions = [draw_scene(FIRST, number, counts=COUNTS).caption for number in range(count)]
    drawings = [Drawing(prompt=caption, seed=number) for number, caption in enumerate(captions)]
    yield from draw_images(bench.model, drawings, bench.folder, "pictures of captions")
    generated = look_through(bench.judge, read_images(bench.model, drawings, bench.folder))
    sets: list[Tensor] = []
    for seed in (FIRST, SECOND):
        pixels, _ = yield from draw_held_out(bench.folder, count, COUNTS, seed=seed)
        sets.append(look_through(bench.judge, pixels))
    first, second = sets
    return {"pictures": count, "generated": frechet_distance(generated, second), "renders": frechet_distance(first, second)}


def look_through(judge: Judge, pixels: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
    """Features, without all pictures in float at once."""
    return torch.cat([features(judge, from_bytes(part)) for part in pixels.split(256)])


def measure_sizes(bench: Bench) -> Figure:
    """How many solids prompts for one give, at the size of the training and at twice that, in one pass and in two."""
    asked = ask_for_one(bench.amounts.sizes, HELD_OUT + 1)
    figure: dict[str, object] = {"prompts": len(asked)}
    for name, (size, passes) in PASSES.items():
        drawings = to_drawings(asked, SIZES, size=size, passes=passes)
        _, found = yield from draw_judged(bench, drawings, name)
        counts = [len(findings) for findings in found]
        figure[name] = {"mean count": statistics.fmean(counts), "exactly one": share([count == 1 for count in counts])}
    return figure


def measure_seconds(bench: Bench) -> dict[str, object]:
    """Median seconds of one picture with the defaults, after one to warm up. Never cached."""
    times: list[float] = []
    for seed in range(bench.amounts.timed + 1):
        begin = time.perf_counter()
        list(bench.model.generate(Request(prompt="a red cube", seed=seed)))
        times.append(time.perf_counter() - begin)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"median": statistics.median(times[1:]), "pictures": bench.amounts.timed, "threads": torch.get_num_threads(), "load": load}
