"""The one training loop: optimiser, moving average, log, checkpoints and resuming.

A step's loss may depend on nothing but the weights and the step's number, so that a run that was killed and resumed
goes through the very same numbers as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checkpoints.formats import read_safetensors_header, take_part
from ..checkpoints.load import read_tensors
from ..checkpoints.save import write_safetensors
from ..core.errors import CheckpointError, EightfoldError, OutputError
from ..core.files import refuse_existing, write_atomically
from ..core.progress import Progress
from .config import Schedule
from .ema import Average
from .optimisers import MOMENTS, build_optimisers

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"

StepLoss = Callable[[int], tuple[Tensor, dict[str, float]]]  # step number -> loss to descend, figures to log


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw starting weights from `seed` and leave the caller's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def to_rate(step: int, schedule: Schedule) -> float:
    """The learning rate of step `step`, counted from 0."""
    if step < schedule.warmup:
        return schedule.rate * (step + 1) / schedule.warmup
    start = max(schedule.warmup, schedule.hold * schedule.steps)
    done = min(max(step - start, 0) / max(schedule.steps - start, 1), 1.0)
    return schedule.rate * (schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * done)) / 2)


@dataclass(frozen=True)
class Run:
    """A run's folder, and everything that its checkpoints must agree with."""

    folder: Path
    identity: str

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT


def open_run(folder: Path, result: str, settings: dict[str, Any], *, resume: bool) -> Run:
    """Before any work: refuse to mix with an earlier run (unless it is resumed, with the same settings), or to replace a foreign result.

    Raises OutputError or CheckpointError.
    """
    run = Run(folder, json.dumps(settings, sort_keys=True))
    if not run.checkpoint.exists():
        refuse_existing(folder / result, overwrite=False)
        return run
    if not resume:
        raise OutputError(f"{run.checkpoint} is there from an earlier run", hint="--resume goes on with it, --out FOLDER starts elsewhere")
    try:
        found = read_safetensors_header(run.checkpoint).metadata.get("run")
    except CheckpointError as error:
        raise CheckpointError(f"{run.checkpoint} is not a checkpoint: {error}", hint="remove it to start again") from None
    if found != run.identity:
        what = f"{run.checkpoint} belongs to a run with other settings"
        raise CheckpointError(what, hint="use the settings it was started with, or another --out")
    return run


def run_training(module: nn.Module, loss: StepLoss, schedule: Schedule, run: Run) -> Iterator[Progress]:
    """Train `module` in place, from the run's checkpoint where there is one, and leave the moving average in it.

    Yields a Progress a step. Raises OutputError when the disk is full (the last checkpoint stays), and EightfoldError when the
    gradient is no longer finite.
    """
    folder = run.folder
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f".{run.checkpoint.stem}.*{run.checkpoint.suffix}"):  # half-written by a run that was killed
        stale.unlink(missing_ok=True)
    optimisers = build_optimisers(module, schedule)
    average = Average(module, schedule.average)
    first = read_checkpoint(run.checkpoint, module, optimisers, average) if run.checkpoint.exists() else 0
    shorten_log(folder / LOG, first)
    board = open_board(folder)
    begin = time.monotonic()
    module.train()
    with open(folder / LOG, "a") as log:
        for step in range(first, schedule.steps):
            figures = run_step(module, loss, optimisers, average, schedule, step)
            done = step + 1
            if done % schedule.log_every == 0 or done == schedule.steps:
                write_line(log, {"step": done, **figures, "seconds": round(time.monotonic() - begin, 2)})
                for name, value in figures.items() if board else ():
                    board.add_scalar(name, value, done)
            if done % schedule.checkpoint_every == 0 or done == schedule.steps:
                write_checkpoint(run, module, optimisers, average, done)
            yield Progress(task="training", number=done, total=schedule.steps, figures=figures)
    module.load_state_dict(average.weights)
    module.eval()


def run_step(
    module: nn.Module, loss: StepLoss, optimisers: list[Optimizer], average: Average, schedule: Schedule, step: int
) -> dict[str, float]:
    rate = to_rate(step, schedule)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate
    value, figures = loss(step)
    module.zero_grad(set_to_none=True)
    value.backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), schedule.clip)
    if not math.isfinite(norm.item()):
        raise EightfoldError(f"the gradient is not finite at step {step + 1}", hint="lower `rate` and start again with another --out")
    for optimiser in optimisers:
        optimiser.step()
    average.update(module, step)
    return {"loss": value.item(), **figures, "norm": norm.item(), "rate": rate}


def write_line(log: TextIO, entry: dict[str, int | float]) -> None:
    try:
        log.write(json.dumps(entry) + "\n")
        log.flush()
    except OSError as error:
        raise OutputError(f"cannot write {log.name}: {error.strerror}", hint="make room, then go on with --resume") from error


def write_checkpoint(run: Run, module: nn.Module, optimisers: list[Optimizer], average: Average, step: int) -> None:
    tensors = {f"weights.{name}": weight for name, weight in module.state_dict().items()}
    tensors |= {f"average.{name}": weight for name, weight in average.weights.items()}
    states = {parameter: state for optimiser in optimisers for parameter, state in optimiser.state.items()}
    for name, parameter in module.named_parameters():
        state = states.get(parameter, {})  # empty for what no loss has reached yet
        tensors |= {f"{moment}.{name}": state[moment] for moment in MOMENTS if moment in state}
    write_safetensors(run.checkpoint, tensors, {"step": str(step), "run": run.identity}, overwrite=True)


def read_checkpoint(path: Path, module: nn.Module, optimisers: list[Optimizer], average: Average) -> int:
    """Put everything back as it was; the number of steps done."""
    step = int(read_safetensors_header(path).metadata["step"])
    tensors = read_tensors(path)
    module.load_state_dict(take_part(tensors, "weights."))
    average.weights = take_part(tensors, "average.")
    names = {parameter: name for name, parameter in module.named_parameters()}
    for optimiser in optimisers:
        for parameter in (parameter for group in optimiser.param_groups for parameter in group["params"]):
            found = {key: tensors[f"{key}.{names[parameter]}"] for key in MOMENTS if f"{key}.{names[parameter]}" in tensors}
            if found:
                optimiser.state[parameter] = {"step": torch.tensor(float(step)), **found}
    return step


def shorten_log(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint, a half-written last line included; lines that are not ours stay."""
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and read_step(line) <= step]
    if kept != lines:
        with write_atomically(path, overwrite=True) as temporary:
            temporary.write_text("".join(kept))


def read_step(line: str) -> int:
    """The step that a line of the log is about, 0 where it is about none."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return 0


def open_board(folder: Path) -> Any:
    """A TensorBoard writer where tensorboard is installed, otherwise nothing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
