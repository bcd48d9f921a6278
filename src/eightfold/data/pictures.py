"""A set of rendered pictures on disk: drawn once, in shards, kept under a name that says what was drawn."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from hashlib import sha256
from multiprocessing import get_context, parent_process
from pathlib import Path
from signal import SIGTERM
from threading import Thread
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from ..checkpoints.formats import read_safetensors_header
from ..checkpoints.load import read_tensors
from ..checkpoints.save import write_safetensors
from ..codec.pixels import to_bytes
from ..core.errors import CheckpointError, ConfigError, EightfoldError
from ..core.progress import Progress
from .scenes import draw_scene, render
from .textures import render_textures

SHARD = 256
VERSION = 1  # raise it when the renderer draws other pictures for the same numbers


@dataclass(frozen=True, kw_only=True)
class PictureConfig:
    """How many scenes and textures of `size` pixels; `counts` are the shares of scenes with one, two and three solids."""

    scenes: int
    textures: int = 0
    size: int = 128
    seed: int = 0
    counts: tuple[float, float, float] = (1.0, 0.0, 0.0)
    exclude: tuple[tuple[str, str], ...] = ()  # (colour, shape) pairs that are never drawn

    def __post_init__(self) -> None:
        if min(self.scenes, self.textures) < 0 or self.scenes + self.textures < 1 or self.size < 1:
            what = f"{self.scenes} scenes and {self.textures} textures of {self.size} pixels cannot be drawn"
            raise ConfigError(what, hint="scenes = 1000")
        if min(self.counts) < 0 or sum(self.counts) <= 0:
            raise ConfigError(f"counts are {list(self.counts)}, expected shares of 0 or more", hint="counts = [0.7, 0.2, 0.1]")

    @property
    def key(self) -> str:
        return sha256(json.dumps([VERSION, asdict(self)]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Pictures:
    """Pictures as bytes, and a caption for each scene (empty for a texture)."""

    pixels: UInt8[Tensor, "n 3 h w"]
    captions: list[str]


def shard_path(config: PictureConfig, folder: Path, start: int) -> Path:
    return folder / f"pictures-{config.key}-{start:06d}.safetensors"


def draw_pictures(config: PictureConfig, folder: Path) -> Iterator[Progress]:
    """Render what is not on disk yet. An interrupted run goes on at the first missing shard.

    Rendering is many small operations, which threads only slow down: one single-threaded process a core does a shard at a time.
    """
    total = config.scenes + config.textures
    starts = range(0, total, SHARD)
    missing = [start for start in starts if not shard_path(config, folder, start).exists()]
    if not missing:
        return
    done = total - sum(shard_size(config, start) for start in missing)
    for index in run_in_processes(write_shard, [(config, folder, start) for start in missing]):
        done += shard_size(config, missing[index])
        yield Progress(task="pictures", number=done, total=total)


def run_in_processes(work: Callable[..., None], tasks: Sequence[tuple[Any, ...]]) -> Iterator[int]:
    """Call `work` with the arguments of each task, in one single-threaded process a core; yield the index of each that is done.

    `work` and what it is given must be importable and picklable. What it raises is raised here.
    """
    if not tasks:
        return
    with ProcessPoolExecutor(min(count_cores(), len(tasks)), get_context("spawn"), start_worker) as pool:
        running = {pool.submit(work, *task): index for index, task in enumerate(tasks)}
        try:
            for task in as_completed(running):
                task.result()
                yield running[task]
        except BrokenProcessPool:
            hint = "a script that starts this needs `if __name__ == '__main__':` around its work; otherwise memory may have run out"
            raise EightfoldError("a process that draws pictures ended without a word", hint=hint) from None
        finally:
            pool.shutdown(cancel_futures=True)


def count_cores() -> int:
    """The cores this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker() -> None:
    """One thread, and an end with the parent: a parent that is killed cannot tell its workers to stop."""
    torch.set_num_threads(1)
    parent = parent_process()
    if parent is not None:
        Thread(target=lambda: (parent.join(), os.kill(os.getpid(), SIGTERM)), daemon=True).start()


def shard_size(config: PictureConfig, start: int) -> int:
    return min(SHARD, config.scenes + config.textures - start)


def write_shard(config: PictureConfig, folder: Path, start: int) -> None:
    pixels, captions = draw_shard(config, range(start, start + shard_size(config, start)))
    write_safetensors(shard_path(config, folder, start), {"pixels": pixels}, {"captions": json.dumps(captions)}, overwrite=True)


def draw_shard(config: PictureConfig, numbers: range) -> tuple[Tensor, list[str]]:
    """Scenes come first, textures after them."""
    exclude = frozenset(config.exclude)
    scenes = [draw_scene(config.seed, n, counts=config.counts, exclude=exclude) for n in numbers if n < config.scenes]
    textures = [n - config.scenes for n in numbers if n >= config.scenes]
    parts = [to_bytes(render(scenes[i : i + 16], config.size).image) for i in range(0, len(scenes), 16)]
    parts += [to_bytes(render_textures(config.seed, textures[i : i + 16], config.size)) for i in range(0, len(textures), 16)]
    return torch.cat(parts), [scene.caption for scene in scenes] + [""] * len(textures)


def read_pictures(config: PictureConfig, folder: Path) -> Pictures:
    """The whole set, in order."""
    parts: list[Tensor] = []
    captions: list[str] = []
    for start in range(0, config.scenes + config.textures, SHARD):
        path = shard_path(config, folder, start)
        shape = (shard_size(config, start), 3, config.size, config.size)
        try:
            header = read_safetensors_header(path)
            if header.tensors["pixels"].shape != shape:
                raise KeyError(f"pixels of {shape}")
        except (CheckpointError, KeyError):
            raise CheckpointError(f"{path} is damaged", hint="remove it: it is drawn again") from None
        parts.append(read_tensors(path)["pixels"])
        captions += json.loads(header.metadata["captions"])
    return Pictures(torch.cat(parts), captions)
