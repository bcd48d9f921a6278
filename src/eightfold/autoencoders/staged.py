"""What autoencoders made of two lists of stages have in common."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..nn.stages import Stage, run_stages
from .posterior import Posterior, to_posterior


class StagedAutoencoder(nn.Module):
    """An encoder to mean and log-variance and a decoder, both lists of stages (arXiv 2112.10752, section 3.1)."""

    encoder: Any  # modules whose `stages` are lists of stages
    decoder: Any

    def encoder_stages(self) -> list[Stage]:
        return self.encoder.stages()

    def decoder_stages(self) -> list[Stage]:
        return self.decoder.stages()

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Posterior:
        """Image in [-1, 1], sides a multiple of the downscale, to the posterior of its raw latent."""
        return self.to_posterior(run_stages(self.encoder_stages(), image))

    def to_posterior(self, encoded: Float[Tensor, "b c h w"]) -> Posterior:
        """What the last of the encoder's stages gives, however they were run."""
        return to_posterior(encoded)

    def decode(self, raw: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Raw latent to an image of about [-1, 1], not clamped."""
        return run_stages(self.decoder_stages(), raw)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """There and back by the mode."""
        return self.decode(self.encode(image).mode)
