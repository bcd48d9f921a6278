"""Runs autoencoders: by which kernels, by which plan, inside how much memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from ..autoencoders.posterior import Posterior
from ..autoencoders.staged import StagedAutoencoder
from ..checkpoints.known import to_folder
from ..core.memory import measure_free, measure_resident
from ..nn.kernels import ready
from ..nn.stages import run_stages
from .cost import Machine, count_operations, measure_speed
from .graph import Graph
from .kernels import Kernels
from .lower import NotLowered, lower
from .plan import Plan, Planner
from .schedule import WHOLE, Frame, Place
from .strips import Run, Watch

if TYPE_CHECKING:
    from .fast import FastKernels

Task = Literal["encode", "decode"]
Shape = tuple[int, int, int]  # of an input: channels, height, width
SHARE = 0.8  # of the free memory that a run may take unasked
WORTH = 60e9  # multiplications and additions of a run below which loading the fast kernels takes longer than they save
SLOW = 5.0  # times the fastest plan, from which on somebody should agree first
PLAIN = 2  # times the memory of a plan that the plain loop takes
FRAMES = 8  # sizes of pictures whose schedules are remembered


def ignore(_: Any) -> None:
    """Nobody watches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """A plan, with the fastest one that any amount of memory would allow, and why the kernels are those that they are.

    `budget` is the bound on the process's resident memory that the plan keeps, in bytes; None where nobody says what is free.
    """

    task: Task
    frame: Frame
    plan: Plan
    planner: Planner
    fastest: Plan
    budget: int | None
    kernels: Kernels
    reason: str

    @property
    def is_plain(self) -> bool:
        """Whether the stages are run one after the other: for little work that fits anyhow the passes of a plan take longer."""
        fits = self.budget is None or self.plan.base + PLAIN * self.plan.rise_bytes <= self.budget
        return fits and self.plan is self.fastest and count_operations(self.frame) < WORTH

    @property
    def peak_bytes(self) -> int:
        """The largest resident memory of this process that the run is expected to lead to."""
        return self.plan.base + self.rise_bytes

    @property
    def rise_bytes(self) -> int:
        return (PLAIN if self.is_plain else 1) * self.plan.rise_bytes

    @property
    def seconds(self) -> float:
        return self.plan.total_seconds

    @property
    def slowdown(self) -> float:
        """How many times longer it takes than with all the memory it would like."""
        return self.plan.total_seconds / self.fastest.total_seconds

    @cached_property
    def comfortable_bytes(self) -> int:
        """The memory with which it would not be called slow."""
        low, high = self.peak_bytes, self.fastest.peak_bytes
        while high - low > high // 50:
            middle = (low + high) // 2
            if self.planner.plan(middle).total_seconds > SLOW * self.fastest.total_seconds:
                low = middle
            else:
                high = middle
        return high

    def to_record(self) -> dict[str, object]:
        """For the metadata of what is computed by it."""
        choice = self.plan.choice
        if self.is_plain:
            return {"kernels": "torch, stage by stage"}
        places = {place.value: sum(one is place for one in choice.places.values()) for place in Place}
        return {"kernels": self.kernels.name, "strip": None if choice.strip >= WHOLE else choice.strip, "feature_maps": places}


@dataclass(kw_only=True, eq=False)
class Engine:
    """`memory` bounds the resident memory of this process, in bytes; without it a share of what is free is taken.

    `watch` is told what share of a run is done; `approve` is asked before a run that the bound on memory makes slow, and raises to refuse.
    """

    memory: int | None = None
    watch: Watch = ignore
    approve: Callable[[Explanation], None] = ignore
    graphs: WeakKeyDictionary[StagedAutoencoder, dict[Task, Graph]] = field(default_factory=WeakKeyDictionary)
    frames: dict[tuple[Graph, int, int, torch.dtype], Frame] = field(default_factory=dict)
    kernels: dict[int, FastKernels] = field(default_factory=dict)

    def find_frame(self, network: StagedAutoencoder, task: Task, shape: Shape, dtype: torch.dtype) -> Frame:
        """The graph of a network for an input of this shape. Raises NotLowered for a network that none describes."""
        channels, height, width = shape
        graphs = self.graphs.setdefault(network, {})
        if task not in graphs:
            graphs[task] = lower(network.encoder_stages() if task == "encode" else network.decoder_stages(), channels)
        key = (graphs[task], height, width, dtype)
        if key not in self.frames:
            while len(self.frames) >= FRAMES:
                self.frames.pop(next(iter(self.frames)))
            self.frames[key] = Frame(graph=graphs[task], height=height, width=width, dtype=dtype)
        return self.frames[key]

    def choose_kernels(self, frame: Frame, device: torch.device) -> tuple[Kernels, str]:
        """With the reason where they are not the fast ones."""
        if device.type != "cpu" or frame.dtype != torch.float32:
            return Kernels(), "the fast kernels are for float32 on a CPU"
        if count_operations(frame) < WORTH:
            return Kernels(), "too little work for the fast kernels to be worth loading"
        found = ready.available_soon(to_folder() / "kernels")
        if not found.usable:
            return Kernels(), found.reason
        threads = torch.get_num_threads()
        if threads not in self.kernels:
            from .fast import FastKernels

            self.kernels[threads] = FastKernels(found.lanes, threads)
        return self.kernels[threads], ""

    def explain(self, network: StagedAutoencoder, task: Task, shape: Shape, device: torch.device, dtype: torch.dtype) -> Explanation:
        """The plan for an input of this shape, without running it. Raises NotLowered, and RequestError where the memory is too small."""
        frame = self.find_frame(network, task, shape, dtype)
        kernels, reason = self.choose_kernels(frame, device)
        base, free = measure_memory(device)
        base -= sum(one.count_held() for one in self.kernels.values())
        budget = self.memory if self.memory is not None else None if free is None else base + int(SHARE * free)
        threads = torch.get_num_threads()
        planner = Planner(frame=frame, kernels=kernels, machine=Machine(threads=threads, speed=measure_speed(threads)), base=base)
        fastest = planner.plan(None)
        plan = fastest if budget is None or fastest.peak_bytes <= budget else planner.plan(budget)
        return Explanation(
            task=task, frame=frame, plan=plan, planner=planner, fastest=fastest, budget=budget, kernels=kernels, reason=reason
        )

    @torch.no_grad()
    def run(self, network: StagedAutoencoder, task: Task, x: Float[Tensor, "1 c h w"]) -> tuple[Tensor, dict[str, object]]:
        """What the encoder's or the decoder's stages make of `x`, on its device and in its dtype, and how that was done."""
        _, channels, height, width = x.shape
        stages = network.encoder_stages() if task == "encode" else network.decoder_stages()
        try:
            found = self.explain(network, task, (channels, height, width), x.device, x.dtype)
        except NotLowered as error:
            return run_stages(stages, x), {"kernels": f"torch, stage by stage: {error}"}
        if found.is_plain:
            return run_stages(stages, x), found.to_record()
        if found.slowdown > SLOW:
            self.approve(found)
        folder = to_folder() / "spill"
        run = Run(frame=found.frame, plan=found.plan, kernels=found.kernels, device=x.device, folder=folder, watch=self.watch)
        return run.run(x), found.to_record()


def measure_memory(device: torch.device) -> tuple[int, int | None]:
    """Bytes that are taken by us and bytes that are free, where the network runs."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return torch.cuda.memory_allocated(device), free
    return measure_resident(), measure_free()


@dataclass(eq=False)
class Planned:
    """An autoencoder that is run by plans. `record` is filled with how it was run."""

    network: StagedAutoencoder
    engine: Engine
    record: dict[str, object]

    def encode(self, image: Float[Tensor, "1 3 h w"]) -> Posterior:
        return self.network.to_posterior(self.run("encode", image))

    def decode(self, raw: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 3 h2 w2"]:
        return self.run("decode", raw)

    def run(self, task: Task, x: Tensor) -> Tensor:
        result, record = self.engine.run(self.network, task, x)
        self.record |= record
        return result
