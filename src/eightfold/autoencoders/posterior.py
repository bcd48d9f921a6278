"""What an encoder says of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LOG_VARIANCE = (-30.0, 20.0)  # the range the public models clamp to


@dataclass(frozen=True)
class Posterior:
    """A normal distribution for every latent number."""

    mean: Float[Tensor, "b c h w"]
    std: Float[Tensor, "b c h w"]

    @property
    def mode(self) -> Float[Tensor, "b c h w"]:
        return self.mean

    def sample(self, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """mean + std * noise, with standard normal noise from the caller."""
        return self.mean + self.std * noise


def to_posterior(moments: Float[Tensor, "b c2 h w"]) -> Posterior:
    """Mean and log-variance, one behind the other along the channels, as a network of two lists of stages gives them."""
    mean, log_variance = moments.chunk(2, dim=1)
    return Posterior(mean, torch.exp(0.5 * log_variance.clamp(*LOG_VARIANCE)))
