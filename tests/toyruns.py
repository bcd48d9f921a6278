"""Small autoencoders of every kind as graphs, and runs of these by any plan, in memory that shows a read of what is not there."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from eightfold.autoencoders.build import build_autoencoder
from eightfold.autoencoders.staged import StagedAutoencoder
from eightfold.codec import storage, strips
from eightfold.codec.cost import Machine
from eightfold.codec.lower import lower
from eightfold.codec.plan import Choice, Plan, Planner
from eightfold.codec.schedule import WHOLE, Frame, Place
from eightfold.nn.convolving import Kernels
from eightfold.nn.graph import Graph
from eightfold.nn.stages import Stage, run_stages
from eightfold.specs.network import AutoencoderConfig, Flux2Config, IdentityConfig, TinyConfig
from toyspaces import TOYS
from weights import draw, randomise

Task = Literal["encode", "decode"]
TASKS: tuple[Task, Task] = ("encode", "decode")
VARIANTS = {
    "tiny": TinyConfig(channels=4, width=8, blocks=(1, 2, 1, 1)),
    "tiny-16": TinyConfig(channels=16, width=8, blocks=(1, 1, 2, 1), last=2),
    "small-decoder": Flux2Config(width=16, decoder_width=8, multipliers=(1, 1, 2, 2), blocks=1, groups=4),
}


def list_configs() -> dict[str, AutoencoderConfig]:
    """Each network once, by the first space that has it."""
    found: dict[AutoencoderConfig, str] = {}
    for name, config in [*((name, space.autoencoder) for name, space in TOYS.items()), *VARIANTS.items()]:
        if not isinstance(config, IdentityConfig):
            found.setdefault(config, name)
    return {name: config for config, name in found.items()}


CONFIGS = list_configs()
CASES = [(name, task) for name in CONFIGS for task in TASKS]


@cache
def build_network(name: str) -> StagedAutoencoder:
    network = build_autoencoder(CONFIGS[name])
    assert isinstance(network, StagedAutoencoder)
    return randomise(network, seed=1)


def to_stages(network: StagedAutoencoder, task: Task) -> list[Stage]:
    return network.encoder_stages() if task == "encode" else network.decoder_stages()


@cache
def build_graph(name: str, task: Task) -> Graph:
    return lower(to_stages(build_network(name), task), 3 if task == "encode" else CONFIGS[name].channels)


def draw_input(name: str, task: Task, height: int, width: int, seed: int = 0) -> Tensor:
    """For so many cells."""
    config = CONFIGS[name]
    if task == "decode":
        return draw(1, config.channels, height, width, seed=seed)
    return draw(1, 3, height * config.downscale, width * config.downscale, seed=seed).clamp(-1, 1)


@torch.no_grad()
def run_plainly(name: str, task: Task, x: Tensor) -> Tensor:
    return run_stages(to_stages(build_network(name), task), x)


def build_frame(graph: Graph, x: Tensor) -> Frame:
    return Frame(graph=graph, height=x.shape[2], width=x.shape[3], dtype=x.dtype)


def build_planner(frame: Frame, kernels: Kernels | None = None, base: int = 0) -> Planner:
    return Planner(frame=frame, kernels=kernels or Kernels(), machine=Machine(threads=1), base=base, again=True)


def draw_choice(frame: Frame, seed: int, passing: float | None = None) -> Choice:
    """Any place for every node that may have one, any strip. `passing` is the share that is made again."""
    dice = random.Random(seed)
    passing = dice.choice([0.2, 0.5, 0.8]) if passing is None else passing
    weights = [passing, (1 - passing) / 2, (1 - passing) / 2]
    kinds = [Place.PASSING, Place.FILE, Place.MEMORY]
    drawn = {number: dice.choices(kinds, weights)[0] for number in range(len(frame.graph.nodes))}
    places = {number: Place.MEMORY if number in frame.whole else place for number, place in drawn.items()}
    return Choice(places=places, strip=dice.choice([1, 3, 8, 16, 64, WHOLE]), keeps_weights=dice.random() < 0.5)


def run_plan(
    planner: Planner, plan: Plan, x: Tensor, folder: Path, *, kernels: Kernels | None = None, watch: Callable[[float], None] | None = None
) -> Tensor:
    """`kernels`, if they are to be others than those that were planned for."""
    run = strips.Run(
        frame=planner.frame,
        plan=plan,
        kernels=kernels or planner.kernels,
        device=x.device,
        folder=folder,
        watch=watch or (lambda share: None),
    )
    return run.run(x)


def poison(patch: pytest.MonkeyPatch) -> None:
    """New memory is not a number, and so is what was given back: whoever reads a row that is not there has it in the result."""
    allocate, release, build = storage.allocate, storage.Memory.release, storage.Memory.__init__

    def allocate_poisoned(size: storage.Size, device: torch.device) -> torch.Tensor:
        return allocate(size, device).fill_(torch.nan)

    def build_poisoned(self: storage.Memory, *given: Any, **named: Any) -> None:
        build(self, *given, **named)
        self.rows.fill_(torch.nan)

    def release_poisoned(self: storage.Memory, upto: int) -> None:
        release(self, upto)
        self.rows[:upto] = torch.nan

    patch.setattr(storage, "allocate", allocate_poisoned)
    patch.setattr(storage.Memory, "__init__", build_poisoned)
    patch.setattr(storage.Memory, "release", release_poisoned)


def count_open(folder: Path) -> int:
    """Temporary files of `folder` that this process holds open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except OSError:
            continue
    return sum(target.startswith(str(folder)) for target in found)
