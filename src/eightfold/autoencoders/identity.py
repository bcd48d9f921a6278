"""The autoencoder of models that draw pixels: none. The raw latent is the image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..specs.network import IdentityConfig
from .posterior import Posterior


class IdentityAutoencoder(nn.Module):
    """Nothing is lost and nothing drawn: the posterior is the image, certain."""

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Posterior:
        return Posterior(image, torch.zeros_like(image))

    def decode(self, raw: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return raw
