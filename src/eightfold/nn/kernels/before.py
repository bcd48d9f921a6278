"""What is done to a layer's input before the layer: a normalisation or none, then an activation or none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PLAIN, AFFINE, CHANNEL = 0, 1, 2  # how a kernel normalises
SILU, RELU = 1, 2  # and what follows
NOTHING = np.zeros(3, np.float32)
SMALLEST = 1e-12  # a pixel of length 0 stays 0 under channel norm


@dataclass(frozen=True, kw_only=True)
class Before:
    """`affine`, float32 [3 * c], is group norm as `moments.to_affine` gives it: (x - centre) * scale + offset.

    `gamma`, float32 [c], is channel norm (arXiv 1910.07467): x * sqrt(c) / max(|x|, 1e-12) * gamma, with the length |x| of each pixel over
    its channels. Then SiLU, ReLU or nothing. Raises ValueError for both norms, or both activations.
    """

    affine: np.ndarray | None = None
    gamma: np.ndarray | None = None
    silu: bool = False
    relu: bool = False

    def __post_init__(self) -> None:
        if (self.affine is not None and self.gamma is not None) or (self.silu and self.relu):
            raise ValueError("one normalisation and one activation at most come before a layer")

    @property
    def does_nothing(self) -> bool:
        return self.affine is None and self.gamma is None and not self.silu and not self.relu


def to_steps(before: Before | None, channels: int) -> tuple[tuple[int, int], np.ndarray]:
    """The same for a kernel: (how it normalises, what follows) and the numbers it needs.

    An activation alone comes behind a group norm that changes nothing. Raises ValueError where the numbers are those of another width.
    """
    if before is None or before.does_nothing:
        return (PLAIN, 0), NOTHING
    follows = SILU if before.silu else RELU if before.relu else 0
    if before.gamma is not None:
        return (CHANNEL, follows), check_table(before.gamma, channels)
    if before.affine is not None:
        return (AFFINE, follows), check_table(before.affine, 3 * channels)
    return (AFFINE, follows), np.repeat(np.array([0, 1, 0], np.float32), channels)


def check_table(table: np.ndarray, size: int) -> np.ndarray:
    if table.shape != (size,):
        raise ValueError(f"what normalises the input has {table.shape} numbers; the layer needs ({size},)")
    return np.ascontiguousarray(table, np.float32)
