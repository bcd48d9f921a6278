"""Noise that depends on a seed and nothing else: not on the device, the batch or what ran before."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor


def build_generator(seed: int, *purpose: object) -> Generator:
    """A CPU generator for `seed`. A different `purpose` gives an independent stream; without one the seed is used as it is."""
    import torch

    if purpose:
        digest = sha256(repr((seed, *purpose)).encode()).digest()
        seed = int.from_bytes(digest[:8], "little") >> 1
    return torch.Generator().manual_seed(seed)


def draw_noise(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Standard normal float32 of `shape`, drawn on the CPU."""
    import torch

    return torch.randn(shape, generator=generator, dtype=torch.float32)
