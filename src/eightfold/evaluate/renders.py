"""Figures on renders and photographs: how good the judge is, and what the autoencoder keeps."""

from __future__ import annotations

import statistics
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from ..codec.pixels import Picture, from_bytes
from ..core.errors import EightfoldError
from ..core.progress import Progress
from ..data.captions import relate
from ..data.pictures import PictureConfig, draw_pictures, read_pictures
from ..data.scenes import draw_scene
from ..data.solids import Scene
from ..metrics.pixels import psnr
from ..pipelines.bundle import Model
from ..pipelines.walk import fit
from .asked import RELATIONS, relate_found
from .judge import Finding, Judge, find_objects

HELD_OUT = 7  # seeds from here on belong to no training configuration
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")
SHORT_SIDE = 256

Figure = Generator[Progress, None, dict[str, Any]]  # progress on the way, the figure at the end


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How many pictures each figure takes; `pictures` are those of the Fréchet distance, of which 0 leaves it out."""

    lone: int = 2000  # renders of one solid that the judge is measured on
    two: int = 1000
    three: int = 500
    large: int = 200  # renders of one solid at 256x256
    scenes: int = 1000  # round trips
    prompts: int = 200
    relations: int = 200
    sizes: int = 50
    pictures: int = 5000
    timed: int = 3


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every figure needs: the model, the judge, the folder of caches."""

    model: Model
    judge: Judge
    folder: Path
    amounts: Amounts = Amounts()


def share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else 0.0


def draw_held_out(
    folder: Path, count: int, counts: tuple[float, float, float], *, seed: int = HELD_OUT, size: int = 128
) -> Generator[Progress, None, tuple[UInt8[Tensor, "n 3 h w"], list[Scene]]]:
    """Renders that no training saw, and the scenes behind them."""
    config = PictureConfig(scenes=count, size=size, seed=seed, counts=counts)
    yield from draw_pictures(config, folder)
    return read_pictures(config, folder).pixels, [draw_scene(seed, number, counts=counts) for number in range(count)]


def find_in(judge: Judge, pixels: UInt8[Tensor, "n 3 h w"]) -> list[list[Finding]]:
    """The judge's findings, without all pictures in float at once. What is larger than 128x128 is halved first.

    For a solid that fills a picture of 256x256 is larger than any that the judge knows.
    """
    parts = (from_bytes(part) for part in pixels.split(256))
    return [findings for part in parts for findings in find_objects(judge, F.avg_pool2d(part, 2) if part.shape[-1] > 128 else part)]


def measure_judge(bench: Bench) -> Figure:
    """The judge on renders: kinds of lone solids, counts, both of two solids, and their relation."""
    lone, lone_scenes = yield from draw_held_out(bench.folder, bench.amounts.lone, (1.0, 0.0, 0.0))
    two, two_scenes = yield from draw_held_out(bench.folder, bench.amounts.two, (0.0, 1.0, 0.0))
    three, three_scenes = yield from draw_held_out(bench.folder, bench.amounts.three, (0.0, 0.0, 1.0))
    large, _ = yield from draw_held_out(bench.folder, bench.amounts.large, (1.0, 0.0, 0.0), size=256)
    found = {1: find_in(bench.judge, lone), 2: find_in(bench.judge, two), 3: find_in(bench.judge, three)}
    four = find_in(bench.judge, tile(lone)[: bench.amounts.large])
    return {
        "key": bench.judge.key,
        "renders": {"1": len(lone), "2": len(two), "3": len(three), "256x256": len(large)},
        **compare_lone(found[1], lone_scenes),
        "count": {str(count): share([len(findings) == count for findings in found[count]]) for count in found},
        "all kinds of two": share([has_all(*pair) for pair in zip(found[2], two_scenes, strict=True)]),
        "all kinds of three": share([has_all(*pair) for pair in zip(found[3], three_scenes, strict=True)]),
        "relation of two": compare_relations(found[2], two_scenes),
        "one at 256x256": share([len(findings) == 1 for findings in find_in(bench.judge, large)]),
        "four at 256x256": share([len(findings) == 4 for findings in four]),
    }


def tile(pixels: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "m 3 h2 w2"]:
    """Four pictures each on one of twice the size: solids as a size that was not trained may show them, several and small."""
    whole = pixels[: len(pixels) // 4 * 4]
    return torch.cat([torch.cat([whole[0::4], whole[1::4]], dim=-1), torch.cat([whole[2::4], whole[3::4]], dim=-1)], dim=-2)


def compare_lone(found: Sequence[Sequence[Finding]], scenes: Sequence[Scene]) -> dict[str, float]:
    """Shares of pictures of one solid whose surest finding has the right colour, and the right shape."""
    surest = [findings[0] if findings else None for findings in found]
    pairs = list(zip(surest, (scene.solids[0] for scene in scenes), strict=True))
    return {
        "colour": share([one is not None and one.colour == solid.colour for one, solid in pairs]),
        "shape": share([one is not None and one.shape == solid.shape for one, solid in pairs]),
    }


def has_all(findings: Sequence[Finding], scene: Scene) -> bool:
    """Whether what was found is just what the scene holds."""
    return sorted((one.colour, one.shape) for one in findings) == sorted((solid.colour, solid.shape) for solid in scene.solids)


def compare_relations(found: Sequence[Sequence[Finding]], scenes: Sequence[Scene]) -> dict[str, int | float]:
    """Of the relations that a caption could tell, the share that the rule finds; and of their opposites, the share it finds too."""
    right: list[bool] = []
    opposite: list[bool] = []
    for findings, scene in zip(found, scenes, strict=True):
        clear = relate(scene.solids[0], scene.solids[1], scene.camera)
        kinds = [(one.colour, one.shape) for one in findings]
        wanted = [(solid.colour, solid.shape) for solid in scene.solids]
        seen = relate_found(*(findings[kinds.index(kind)] for kind in wanted)) if {*wanted} <= {*kinds} else ()
        right += [relation in seen for relation in clear]
        opposite += [RELATIONS[RELATIONS.index(relation) ^ 1] in seen for relation in clear]
    return {"told": len(right), "found": share(right), "opposite found": share(opposite)}


def measure_scenes(bench: Bench) -> Figure:
    """Mean PSNR in dB of round trips of held-out scenes."""
    pixels, _ = yield from draw_held_out(bench.folder, bench.amounts.scenes, (0.6, 0.25, 0.15))
    values: list[float] = []
    for number, image in enumerate(from_bytes(pixels).split(1), 1):
        values.append(psnr(image, reconstruct(bench.model, image)))
        yield Progress(task="round trips of scenes", number=number, total=len(pixels))
    return {"pictures": len(values), "psnr": statistics.fmean(values)}


def reconstruct(model: Model, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h w"]:
    """Through latent space and back, by the posterior's mode."""
    return model.codec.decode(model.codec.encode(image, reading="mode")).image


def measure_photographs(bench: Bench) -> Figure:
    """PSNR in dB of round trips of photographs whose short side has 256 pixels."""
    values: dict[str, float] = {}
    for number, (name, pixels) in enumerate(read_photographs().items(), 1):
        image = shorten(from_bytes(pixels))
        values[name] = psnr(image, reconstruct(bench.model, image))
        yield Progress(task="photographs", number=number, total=len(PHOTOGRAPHS))
    return {"psnr": values, "mean": statistics.fmean(values.values())}


def read_photographs() -> dict[str, UInt8[Tensor, "1 3 h w"]]:
    """The photographs that come with scikit-image. Raises EightfoldError where it is not installed."""
    try:
        from skimage import data
    except ImportError:
        hint = "pip install 'eightfold[demo]'"
        raise EightfoldError("the photographs come with scikit-image, which is not installed", hint=hint) from None
    return {name: torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].contiguous() for name in PHOTOGRAPHS}


def shorten(image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h2 w2"]:
    """Scaled so that the short side has 256 pixels."""
    height, width = image.shape[-2:]
    scale = SHORT_SIDE / min(height, width)
    target = Picture(torch.empty(1, 3, round(height * scale), round(width * scale)))
    return fit(replace(target, image=image), target).image


def measure_reconstructions(bench: Bench) -> Figure:
    """What the judge sees of lone solids in renders, and in what the autoencoder made of them."""
    pixels, scenes = yield from draw_held_out(bench.folder, bench.amounts.lone, (1.0, 0.0, 0.0))
    count = min(bench.amounts.scenes, bench.amounts.lone)
    pixels, scenes = pixels[:count], scenes[:count]
    found: list[list[Finding]] = []
    for number, image in enumerate(from_bytes(pixels).split(1), 1):
        found += find_objects(bench.judge, reconstruct(bench.model, image))
        yield Progress(task="round trips of solids", number=number, total=count)
    return {
        "pictures": count,
        "reconstructions": compare_lone(found, scenes),
        "renders": compare_lone(find_in(bench.judge, pixels), scenes),
    }
