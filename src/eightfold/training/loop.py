"""The one training loop: optimiser, moving average, log, checkpoints and resuming.

A step's loss may depend on nothing but the weights and the step's number, so that a run that was killed and resumed
goes through the very same numbers as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..checkpoints.save import write_safetensors
from ..core.errors import CheckpointError, EightfoldError, OutputError
from ..core.progress import Progress
from .config import Schedule
from .ema import Average

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
MOMENTS = ("exp_avg", "exp_avg_sq")

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


def run_training(
    module: nn.Module, loss: StepLoss, schedule: Schedule, folder: Path, *, resume: bool, run: dict[str, Any]
) -> Iterator[Progress]:
    """Train `module` in place and leave the moving average in it. `run` is what a checkpoint must agree with to be resumed.

    Yields a Progress a step. Raises OutputError where a checkpoint exists and `resume` is not given, CheckpointError where it is
    of another run, and EightfoldError when the loss is no longer finite.
    """
    identity = json.dumps({**run, "schedule": asdict(schedule)}, sort_keys=True)
    optimiser = torch.optim.AdamW(module.parameters(), lr=schedule.rate, betas=(0.9, 0.99), weight_decay=schedule.weight_decay)
    average = Average(module, schedule.average)
    path = folder / CHECKPOINT
    first = 0
    if path.exists():
        if not resume:
            raise OutputError(f"{path} is there from an earlier run", hint="--resume goes on with it, --out FOLDER starts elsewhere")
        first = read_checkpoint(path, module, optimiser, average, identity)
    folder.mkdir(parents=True, exist_ok=True)
    shorten_log(folder / LOG, first)
    board = open_board(folder)
    begin = time.monotonic()
    module.train()
    with open(folder / LOG, "a") as log:
        for step in range(first, schedule.steps):
            figures = run_step(module, loss, optimiser, average, schedule, step)
            done = step + 1
            if done % schedule.log_every == 0 or done == schedule.steps:
                log.write(json.dumps({"step": done, **figures, "seconds": round(time.monotonic() - begin, 2)}) + "\n")
                log.flush()
                for name, value in figures.items() if board else ():
                    board.add_scalar(name, value, done)
            if done % schedule.checkpoint_every == 0 or done == schedule.steps:
                write_checkpoint(path, module, optimiser, average, done, identity)
            yield Progress(task="training", number=done, total=schedule.steps, figures=figures)
    module.load_state_dict(average.weights)
    module.eval()


def run_step(
    module: nn.Module, loss: StepLoss, optimiser: torch.optim.Optimizer, average: Average, schedule: Schedule, step: int
) -> dict[str, float]:
    rate = to_rate(step, schedule)
    for group in optimiser.param_groups:
        group["lr"] = rate
    value, figures = loss(step)
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), schedule.clip)
    if not math.isfinite(norm.item()):
        raise EightfoldError(f"the loss is not finite at step {step + 1}", hint="lower `rate`; --resume goes on from the last checkpoint")
    optimiser.step()
    average.update(module, step)
    return {"loss": value.item(), **figures, "norm": norm.item(), "rate": rate}


def write_checkpoint(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, average: Average, step: int, identity: str) -> None:
    tensors = {f"weights.{name}": weight for name, weight in module.state_dict().items()}
    tensors |= {f"average.{name}": weight for name, weight in average.weights.items()}
    for name, parameter in module.named_parameters():
        state = optimiser.state.get(parameter, {})  # empty for what no loss has reached yet
        tensors |= {f"{moment}.{name}": state[moment] for moment in MOMENTS if moment in state}
    write_safetensors(path, tensors, {"step": str(step), "run": identity}, overwrite=True)


def read_checkpoint(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, average: Average, identity: str) -> int:
    """Put everything back as it was; the number of steps done."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("run") != identity:
                raise CheckpointError(
                    f"{path} belongs to a run with other settings", hint="use the settings it was started with, or another --out"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except EightfoldError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} is not a checkpoint: {error}", hint="remove it to start again") from None
    step = int(metadata["step"])
    module.load_state_dict(take(tensors, "weights."))
    average.weights = take(tensors, "average.")
    moments = {moment: take(tensors, f"{moment}.") for moment in MOMENTS}
    for name, parameter in module.named_parameters():
        if name in moments[MOMENTS[0]]:
            optimiser.state[parameter] = {"step": torch.tensor(float(step)), **{moment: moments[moment][name] for moment in MOMENTS}}
    return step


def take(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def shorten_log(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint, a half-written last line included."""
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text().splitlines():
        with suppress(ValueError):
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    path.write_text("".join(kept))


def open_board(folder: Path) -> Any:
    """A TensorBoard writer where tensorboard is installed, otherwise nothing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
