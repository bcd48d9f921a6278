"""The moving average of a network's weights: what is kept of a training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """average = decay * average + (1 - decay) * weights; the decay is smaller during the first steps so that the start is forgotten."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """`step` counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, weight in module.state_dict().items():
            self.weights[name].lerp_(weight, 1 - decay)
