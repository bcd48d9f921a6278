"""The tiny autoencoder against the one of diffusers, on the same random weights."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderTiny

from eightfold.autoencoders.tiny import TinyAutoencoder
from eightfold.specs.network import TinyConfig
from weights import draw, randomise

TOLERANCE = 1e-4
CONFIGS = {
    "two": TinyConfig(channels=4, width=8, blocks=(1, 2)),
    "three": TinyConfig(channels=16, width=12, blocks=(2, 1, 3), last=2),
    "public, narrow": TinyConfig(channels=4, width=16),
    "public": TinyConfig(channels=4),
    "public, 16 channels": TinyConfig(channels=16),
}


def build_theirs(config: TinyConfig) -> AutoencoderTiny:
    widths = (config.width,) * len(config.blocks)
    return AutoencoderTiny(
        latent_channels=config.channels,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=config.blocks,
        num_decoder_blocks=(*reversed(config.blocks[1:]), config.last),
    )


def build_pair(config: TinyConfig) -> tuple[TinyAutoencoder, AutoencoderTiny]:
    with torch.device("meta"):
        theirs = build_theirs(config)
    ours = randomise(TinyAutoencoder(config), seed=1)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    return ours, theirs.eval()


def measure(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == torch.float32
    assert 0.05 < theirs.std() < 20
    return (ours - theirs).abs().max().item()


@torch.no_grad()
@pytest.mark.parametrize("size", [(24, 16), (27, 19)], ids=["even", "odd"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_encode(config, size):
    ours, theirs = build_pair(config)
    image = draw(1, 3, *size).clamp(-1, 1)
    assert measure(ours.encode(image).mean, theirs.encode(image).latents) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("size", [(3, 2), (1, 1)], ids=["some cells", "one cell"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_decode(config, size):
    ours, theirs = build_pair(config)
    latent = 2 * draw(2, config.channels, *size)
    assert measure(ours.decode(latent), theirs.decode(latent).sample) < TOLERANCE


def test_it_takes_latents_as_a_denoiser_sees_them():
    """Their class has no scale and no shift either."""
    config = build_theirs(CONFIGS["two"]).config
    assert (config.scaling_factor, config.shift_factor) == (1.0, 0.0)
