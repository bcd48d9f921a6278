"""The autoencoder of FLUX.2: the KL autoencoder with 32 channels, and the statistics of its packed latents among the weights.

Facts from black-forest-labs/flux2, autoencoder.py. The statistics belong to the normalisation, which whoever holds the space applies:
here they are kept, so that the weights are whole, and play no part in `encode` and `decode`.
"""

from __future__ import annotations

import torch
from torch import nn

from ..specs.network import Flux2Config
from .kl import Decoder, KLAutoencoder


class RunningStatistics(nn.Module):
    """Mean and variance of every channel, as a batch norm without factors leaves them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))


class Flux2Autoencoder(KLAutoencoder):
    """Image to the posterior of a raw latent of 32 channels at 1/8, and back; the decoder may be narrower than the encoder."""

    def __init__(self, config: Flux2Config) -> None:
        super().__init__(config.to_kl(config.width))
        if config.decoder_width != config.width:
            self.decoder = Decoder(config.to_kl(config.decoder_width))
        self.bn = RunningStatistics(config.channels * config.patch**2)
