"""What autoencoders made of two lists of stages have in common."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..nn.stages import Stage, run_stages
from .kl import LOG_VARIANCE, Posterior


class Staged(Protocol):
    def stages(self) -> list[Stage]: ...


class StagedAutoencoder(nn.Module):
    """An encoder to mean and log-variance and a decoder, both lists of stages (arXiv 2112.10752, section 3.1)."""

    encoder: Staged
    decoder: Staged

    def encoder_stages(self) -> list[Stage]:
        return self.encoder.stages()

    def decoder_stages(self) -> list[Stage]:
        return self.decoder.stages()

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Posterior:
        """Image in [-1, 1], sides a multiple of the downscale, to the posterior of its raw latent."""
        mean, log_variance = run_stages(self.encoder_stages(), image).chunk(2, dim=1)
        return Posterior(mean, torch.exp(0.5 * log_variance.clamp(*LOG_VARIANCE)))

    def decode(self, raw: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Raw latent to an image of about [-1, 1], not clamped."""
        return run_stages(self.decoder_stages(), raw)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """There and back by the mode."""
        return self.decode(self.encode(image).mode)
