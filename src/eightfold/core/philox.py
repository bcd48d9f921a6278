"""The random numbers of torch on an NVIDIA GPU, drawn on a CPU."""

from __future__ import annotations

from math import pi, prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MULTIPLIERS, INCREMENTS, ROUNDS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 10
WORD = 2**32


class Philox:
    """Standard normal numbers in the order in which torch draws them on a GPU for `seed`.

    cuRAND's generator is Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011, section 3.3). Number i of a
    tensor is the first of stream i, the streams move one place on with every tensor, and two words make a normal number by the sine half
    of Box and Muller's method. Equal to a GPU's float32 numbers but for rounding (1e-6). A GPU draws a tensor otherwise that has more
    numbers than it runs threads, which is from 40,000 on some to 300,000 on others.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.tensors = seed, 0

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """The next tensor, float32."""
        import numpy as np
        import torch

        first, second = self.draw_words(prod(shape))
        radius = np.sqrt(-2 * np.log((first + 0.5) / WORD))
        return torch.tensor(radius * np.sin(2 * pi * ((second + 0.5) / WORD)), dtype=torch.float32).reshape(shape)

    def draw_words(self, count: int) -> tuple[Any, Any]:
        """Two whole numbers below 2**32 for each of `count` streams."""
        import numpy as np

        low, half = np.uint64(WORD - 1), np.uint64(32)
        none = np.zeros(count, dtype=np.uint64)
        words = [none + np.uint64(self.tensors), none, np.arange(count, dtype=np.uint64), none]
        keys = [self.seed % WORD, self.seed // WORD % WORD]
        for _ in range(ROUNDS):
            left, right = words[0] * np.uint64(MULTIPLIERS[0]), words[2] * np.uint64(MULTIPLIERS[1])
            first = (right >> half) ^ words[1] ^ np.uint64(keys[0])
            third = (left >> half) ^ words[3] ^ np.uint64(keys[1])
            words = [first, right & low, third, left & low]
            keys = [(key + more) % WORD for key, more in zip(keys, INCREMENTS, strict=True)]
        self.tensors += 1
        return words[0], words[1]
