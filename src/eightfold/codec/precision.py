"""What happens when numbers are too narrow for a network: it runs again in wider ones, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..core.device import WIDER, name_dtype


@runtime_checkable
class Posterior(Protocol):
    @property
    def mean(self) -> Tensor: ...
    @property
    def std(self) -> Tensor: ...


@runtime_checkable
class Autoencoder(Protocol):
    """What a codec needs of a network: [-1, 1] images, sides a multiple of the downscale, to a posterior; a raw latent to an image."""

    def encode(self, image: Tensor) -> Posterior: ...
    def decode(self, raw: Tensor) -> Tensor: ...


Work = Callable[[Autoencoder, torch.dtype], tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """Float32 tensors on the CPU, the dtype that gave them, and how it came to that one. `wrong` values are not finite all the same."""

    tensors: tuple[Tensor, ...]
    dtype: torch.dtype
    notes: tuple[str, ...]
    wrong: int


def run_widening(work: Work, dtype: torch.dtype, network: Autoencoder, rebuild: Callable[[torch.dtype], Autoencoder] | None) -> Outcome:
    """Do the work with `network` in `dtype`; as long as values are not finite, again with what `rebuild` gives for the next wider one."""
    outcome = run_once(work, dtype, network, ())
    for name in WIDER[name_dtype(dtype)]:
        if not outcome.wrong or rebuild is None:
            break
        wider: torch.dtype = getattr(torch, name)
        note = f"{outcome.wrong} values were not finite in {name_dtype(outcome.dtype)}: run again in {name}"
        outcome = run_once(work, wider, rebuild(wider), (*outcome.notes, note))
    return outcome


def run_once(work: Work, dtype: torch.dtype, network: Autoencoder, notes: tuple[str, ...]) -> Outcome:
    tensors = tuple(tensor.float().cpu() for tensor in work(network, dtype))
    wrong = sum(int((~torch.isfinite(tensor)).sum()) for tensor in tensors)
    return Outcome(tensors=tensors, dtype=dtype, notes=notes, wrong=wrong)
