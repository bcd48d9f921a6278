"""Public networks that see pictures as videos of one frame, beside ours that see pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from eightfold.checkpoints.load import load_module
from weights import draw, randomise

Fold = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def build_pair(build_ours: Callable[[], nn.Module], build_theirs: Callable[[], nn.Module], fold: Fold) -> tuple[Any, Any]:
    """Theirs with random weights, and ours with the same ones folded; names and shapes have to agree."""
    with torch.device("meta"):
        theirs = build_theirs()
    theirs = randomise(theirs.to_empty(device="cpu"), seed=1)
    return load_module(build_ours, fold(theirs.state_dict()), source="their weights"), theirs


def add_frame(x: Tensor, frames: bool) -> Tensor:
    return x[:, :, None] if frames else x


def drop_frame(x: Tensor, frames: bool) -> Tensor:
    return x.squeeze(2) if frames else x


def measure(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, of outputs that vary and have a size of about 1."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == torch.float32
    assert 0.05 < theirs.std() < 20
    return (ours - theirs).abs().max().item()


@torch.no_grad()
def compare_encode(pair: tuple[Any, Any], size: tuple[int, int, int], *, frames: bool) -> dict[str, float]:
    """The largest differences of mean and standard deviation, for random images of `size` (batch, height, width)."""
    ours, theirs = pair
    image = draw(size[0], 3, *size[1:]).clamp(-1, 1)
    got, expected = ours.encode(image), theirs.encode(add_frame(image, frames)).latent_dist
    return {
        "mean": measure(got.mean, drop_frame(expected.mean, frames)),
        "std": measure(got.std, drop_frame(expected.std, frames)),
    }


@torch.no_grad()
def compare_decode(pair: tuple[Any, Any], size: tuple[int, int, int], *, frames: bool, limit: float = torch.inf) -> dict[str, float]:
    """The largest difference of the decoded images, for random raw latents; `limit` is the range that theirs clamps to."""
    ours, theirs = pair
    raw = draw(size[0], ours.config.channels, *size[1:])
    got, expected = ours.decode(raw), drop_frame(theirs.decode(add_frame(raw, frames)).sample, frames)
    assert (got.abs() < limit).float().mean() > 0.5, "most of what is compared is clamped"
    return {"image": measure(got.clamp(-limit, limit), expected)}
