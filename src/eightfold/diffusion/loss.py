"""The training objective of a denoiser and the times it is trained at."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..specs.process import Process


def denoising_loss(output: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """The mean squared error of each sample, unweighted; the target decides the weighting (see `predict.to_target`)."""
    return (output - target).square().flatten(1).mean(1)


def draw_times(count: int, process: Process, generator: Generator) -> tuple[float, ...]:
    """`count` times, each of those that are multiples of the lowest trained one equally likely; t = 0 is never drawn."""
    trained = round(1 / process.floor)
    entries = torch.randint(1, trained + 1, (count,), generator=generator)
    return tuple(int(entry) / trained for entry in entries)
