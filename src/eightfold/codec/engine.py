"""Runs autoencoders: by which kernels, by which plan, inside how much memory."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from jaxtyping import Float
from torch import Tensor

from ..autoencoders.posterior import Posterior
from ..autoencoders.staged import StagedAutoencoder
from ..checkpoints.known import to_folder
from ..core.memory import give_back, measure_free, measure_resident
from ..nn.convolving import Kernels
from ..nn.graph import Graph
from ..nn.kernels import ready
from ..nn.kernels.pool import map_memory
from ..nn.stages import run_stages
from .cost import Machine, count_operations, measure_speed
from .explain import SLOW, WORTH, Explanation, Task
from .lower import NotLowered, lower
from .plan import Planner
from .schedule import Frame
from .storage import Arena
from .strips import Run, Watch
from .tiles import decode_tiled, encode_tiled

if TYPE_CHECKING:
    from ..nn.fast import FastKernels

Shape = tuple[int, int, int]  # of an input: channels, height, width
SHARE = 0.8  # of the free memory that a run may take unasked
TILE, OVERLAP = 64, 8  # cells of the latent
RESERVE = 40_000_000  # bytes for what cannot be counted: code that is touched for the first time, stacks, small objects
HELD = 1 << 30  # bytes of buffers that a run may leave to the next one
FRAMES = 8  # sizes of pictures whose schedules are remembered


def ignore(_: Any) -> None:
    """Nobody watches."""


@dataclass(kw_only=True, eq=False)
class Engine:
    """`memory` bounds the resident memory of this process, in bytes; without it a share of what is free is taken.

    `watch` is told what share of a run is done; `approve` is asked before a run that the bound on memory makes slow, and raises to refuse.
    `tiled` gives up exactness for time and memory: pictures are cut into tiles that know nothing of each other. `notes` says, once, why
    the fast kernels were wanted and not there.
    """

    memory: int | None = None
    watch: Watch = ignore
    approve: Callable[[Explanation], None] = ignore
    tiled: bool = False
    notes: dict[str, None] = field(default_factory=dict)
    seen: WeakSet[Graph] = field(default_factory=WeakSet)
    arena: Arena[mmap.mmap] = field(default_factory=lambda: Arena(map_memory))
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
        kernels, reason = self.take_kernels()
        return kernels or Kernels(), reason

    def take_kernels(self) -> tuple[FastKernels | None, str]:
        """The fast kernels, for as many threads as torch has now; where they are not ready, why, which `notes` will tell too."""
        found = ready.available_soon(to_folder() / "kernels")
        if not found.usable:
            self.notes.setdefault(found.reason)
            return None, found.reason
        threads = torch.get_num_threads()
        if threads not in self.kernels:
            from ..nn.fast import FastKernels

            self.kernels[threads] = FastKernels(found.lanes, threads)
        return self.kernels[threads], ""

    def explain(self, network: StagedAutoencoder, task: Task, shape: Shape, device: torch.device, dtype: torch.dtype) -> Explanation:
        """The plan for an input of this shape, without running it. Raises NotLowered, and RequestError where the memory is too small."""
        frame = self.find_frame(network, task, shape, dtype)
        kernels, reason = self.choose_kernels(frame, device)
        base, free = measure_memory(device)
        base += RESERVE - self.arena.total - sum(one.count_held() for one in self.kernels.values())
        budget = self.memory if self.memory is not None else None if free is None else base + int(SHARE * free)
        threads = torch.get_num_threads()
        machine = Machine(threads=threads, speed=measure_speed(threads))
        planner = Planner(frame=frame, kernels=kernels, machine=machine, base=base, arena=self.arena, again=frame.graph in self.seen)
        fastest = planner.plan(None)
        plan = fastest if budget is None or fastest.peak_bytes <= budget else planner.plan(budget)
        return Explanation(
            task=task,
            frame=frame,
            plan=plan,
            planner=planner,
            fastest=fastest,
            budget=budget,
            kernels=kernels,
            reason=reason,
            device=str(device),
            reserve=RESERVE,
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
        give_back()
        folder = to_folder() / "spill"
        if not found.plan.choice.reuses:
            self.arena.drop(0)
        arena = self.arena if found.plan.choice.reuses else None
        run = Run(frame=found.frame, plan=found.plan, kernels=found.kernels, device=x.device, folder=folder, watch=self.watch, arena=arena)
        try:
            return run.run(x), found.to_record()
        finally:
            self.seen.add(found.frame.graph)
            found.kernels.end_run()
            self.arena.drop(HELD)


def measure_memory(device: torch.device) -> tuple[int, int | None]:
    """Bytes that are taken by us and bytes that are free, where the network runs."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return torch.cuda.memory_allocated(device), free
    return measure_resident(), measure_free()


@dataclass(eq=False)
class Planned:
    """An autoencoder that is run by plans. `record` is filled with how it was run; `downscale` is the pixels of a cell."""

    network: StagedAutoencoder
    engine: Engine
    record: dict[str, object]
    downscale: int

    def encode(self, image: Float[Tensor, "1 3 h w"]) -> Posterior:
        if not self.is_tiled(max(image.shape[-2:]) // self.downscale):
            return self.network.to_posterior(self.run("encode", image))

        def encode(part: Tensor) -> tuple[Tensor, Tensor]:
            posterior = self.network.to_posterior(self.run("encode", part))
            return posterior.mean, posterior.std

        return Posterior(*encode_tiled(encode, image, downscale=self.downscale, tile=TILE, overlap=OVERLAP))

    def decode(self, raw: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 3 h2 w2"]:
        if not self.is_tiled(max(raw.shape[-2:])):
            return self.run("decode", raw)
        return decode_tiled(lambda part: self.run("decode", part), raw, downscale=self.downscale, tile=TILE, overlap=OVERLAP)

    def is_tiled(self, cells: int) -> bool:
        if not self.engine.tiled or cells <= TILE:
            return False
        self.record["tiles"] = f"{TILE}x{TILE} cells, blended over {OVERLAP}"
        return True

    def run(self, task: Task, x: Tensor) -> Tensor:
        result, record = self.engine.run(self.network, task, x)
        self.record |= record
        return result
