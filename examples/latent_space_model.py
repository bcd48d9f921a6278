"""The sections of `make figures` that need the whole model and the judge: a walk, a pair never seen, sizes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from latent_space_codec import to_confidences
from latent_space_page import KEPT, Section, mean, shrink, to_table
from torch import Tensor

import eightfold as ef
from eightfold.checkpoints.load import read_tensors
from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.codec import Codec
from eightfold.codec.pixels import from_bytes, to_bytes
from eightfold.core.progress import Progress
from eightfold.data.scenes import draw_scene, render
from eightfold.evaluate.asked import PAIRS, describe, with_article
from eightfold.evaluate.drawing import Drawing, draw_images, read_images
from eightfold.evaluate.generated import PASSES
from eightfold.evaluate.judge import Judge, features, find_objects
from eightfold.evaluate.renders import HELD_OUT, Bench
from eightfold.pipelines.sheet import to_sheet
from eightfold.pipelines.transcode import slerp
from eightfold.pipelines.walk import walk_prompts

WALKS, STATIONS = 20, 7
RENDERS = 500  # that a picture on the way is compared with
UNSEEN = ("blue", "cone")
SEEDS, SEEDS_OF_OTHERS, SHOWN = 50, 4, 8
WAYS = ("walk between the prompts", "mixture of the latents", "cross-fade of the pixels")


def draw_walks(model: ef.Model) -> Iterator[Progress]:
    """For each pair of prompts the stations of the three ways between their pictures, a file for each pair."""
    rng = random.Random("walks")
    pairs = [rng.sample([pair for pair in PAIRS if pair != UNSEEN], 2) for _ in range(WALKS)]
    for seed, (path, pair) in enumerate(zip(to_walk_paths(model), pairs, strict=True)):
        if path.exists():
            continue
        start, end = (ef.Request(prompt=with_article(one), seed=seed) for one in pair)
        frames = list(walk_prompts(model, start, end, STATIONS))
        images = [frame.latent for frame in frames]
        mixed = mix_latents(model.codec, images[0], images[-1], [frame.share for frame in frames])
        walk = torch.stack([torch.cat(images), mixed, torch.cat([frame.pixel for frame in frames])])
        write_safetensors(path, {"pixels": to_bytes(walk)}, {"from": start.prompt, "to": end.prompt}, overwrite=True)
        yield Progress(task="walks", number=seed + 1, total=WALKS)


def to_walk_paths(model: ef.Model) -> list[Path]:
    return [KEPT / f"walk-{model.fingerprint[:12]}-{STATIONS}-{number:02d}.safetensors" for number in range(WALKS)]


def mix_latents(
    codec: Codec, first: Float[Tensor, "1 3 h w"], last: Float[Tensor, "1 3 h w"], shares: Sequence[float]
) -> Float[Tensor, "s 3 h w"]:
    """The way between the latents of two finished pictures, decoded."""
    ends = [codec.normalise(codec.encode(image, reading="mode").raw) for image in (first, last)]
    return codec.decode_raw(codec.denormalise(torch.cat([slerp(ends[0], ends[1], share) for share in shares])))


def compare_walks(model: ef.Model, judge: Judge) -> Section:
    """How sure the judge is along the way, how many solids it sees, and how near the picture is to a render."""
    walks = torch.stack([from_bytes(read_tensors(path)["pixels"]) for path in to_walk_paths(model)])
    shares = [index / (STATIONS - 1) for index in range(STATIONS)]
    known, others = features(judge, render([draw_scene(HELD_OUT, n) for n in range(2 * RENDERS)]).image).split(RENDERS)
    usual = to_nearest(others, known).mean()
    sure, many, near = [], [], []
    for row, way in enumerate(WAYS):
        stations = [walks[:, row, station] for station in range(STATIONS)]
        sure.append([f"confidence, {way}", *(f"{mean(to_confidences(judge, images)):.2f}" for images in stations)])
        counts = [[len(found) for found in find_objects(judge, images)] for images in stations]
        many.append([f"solids, {way}", *(f"{mean(count):.2f}" for count in counts)])
        distances = [to_nearest(features(judge, images), known) / usual for images in stations]
        near.append([f"distance, {way}", *(f"{mean(distance):.2f}" for distance in distances)])
    table = to_table(["share of the way", *(f"{share:.2f}" for share in shares)], [*near, *sure, *many])
    return Section({"walk": table}, {"walk": to_sheet(list(shrink(walks[0].flatten(0, 1), 96).split(1)), columns=STATIONS)})


def to_nearest(found: Float[Tensor, "n d"], known: Float[Tensor, "m d"]) -> Float[Tensor, "n"]:
    """The distance from each picture's features to those of the nearest render."""
    return torch.cdist(found.double(), known.double()).amin(dim=1)


def list_kinds() -> list[Drawing]:
    """Pictures of the pair that was left out, and then a few of every other pair."""
    unseen = [Drawing(prompt=with_article(UNSEEN), seed=seed) for seed in range(SEEDS)]
    others = [pair for pair in PAIRS if pair != UNSEEN]
    return unseen + [Drawing(prompt=with_article(pair), seed=seed) for pair in others for seed in range(SEEDS_OF_OTHERS)]


def list_sizes(name: str) -> list[Drawing]:
    size, passes = PASSES[name]
    return [Drawing(prompt="a red cube", seed=seed, size=size, passes=passes) for seed in range(4)]


def draw_all(bench: Bench) -> Iterator[Progress]:
    """Everything that the sections below look at, drawn once and kept."""
    yield from draw_walks(bench.model)
    yield from draw_images(bench.model, list_kinds(), bench.folder, "one pair and the others")
    for name in PASSES:
        yield from draw_images(bench.model, list_sizes(name), bench.folder, name)


def show_unseen(bench: Bench) -> Section:
    """How often the judge finds what was asked for, by its surest finding."""
    images = from_bytes(read_images(bench.model, list_kinds(), bench.folder))
    found = find_objects(bench.judge, images)
    surest = [(one[0].colour, one[0].shape) if one else ("", "") for one in found]
    others = [pair for pair in PAIRS if pair != UNSEEN for _ in range(SEEDS_OF_OTHERS)]
    rows = []
    for name, wanted, got in (
        (with_article(UNSEEN), [UNSEEN] * SEEDS, surest[:SEEDS]),
        (f"the other {len(PAIRS) - 1} pairs", others, surest[SEEDS:]),
    ):
        right = [(a[0] == b[0], a[1] == b[1], a == b) for a, b in zip(wanted, got, strict=True)]
        rows.append([name, str(len(wanted)), *(f"{100 * mean([hit[part] for hit in right]):.0f} %" for part in range(3))])
    table = to_table(["prompt", "pictures", "colour right", "shape right", "both right"], rows)
    labels = [f"seed {seed}: {describe(found[seed])}" for seed in range(SHOWN)]
    shown = [shrink(one, 112) for one in images[:SHOWN].split(1)]
    return Section({"unseen": table}, {"unseen": to_sheet(shown, columns=SHOWN, labels=labels)})


def show_sizes(bench: Bench, figure: dict[str, Any]) -> Section:
    """How many solids prompts for one give, by `eightfold evaluate pocket`, and the pictures of four seeds."""
    rows = [[name, f"{figure[name]['mean count']:.2f}", f"{100 * figure[name]['exactly one']:.0f} %"] for name in PASSES]
    sheet, labels = [], []
    for name in PASSES:
        images = from_bytes(read_images(bench.model, list_sizes(name), bench.folder))
        sheet += [shrink(one, 128) for one in images.split(1)]
        labels += [f"{name}: {describe(found)}" for found in find_objects(bench.judge, images)]
    table = to_table([f"size ({figure['prompts']} prompts for one solid)", "solids found, mean", "exactly one"], rows)
    return Section({"sizes": table}, {"sizes": to_sheet(sheet, columns=4, labels=labels)})
