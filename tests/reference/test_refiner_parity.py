"""The autoencoder of HunyuanImage 2.1's refiner against the video network of diffusers, on the same random weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from diffusers import AutoencoderKLHunyuanImageRefiner

from eightfold.autoencoders.refiner import RefinerAutoencoder, fold_refiner
from eightfold.specs.network import RefinerConfig
from frames import build_pair, compare_decode, compare_encode

TOLERANCE = 1e-4
PUBLIC = RefinerConfig(channels=32)
THREE = RefinerConfig(channels=4, width=16, multipliers=(1, 2, 2), blocks=1)

CONFIGS = {
    "three": THREE,
    "three, time halved once": replace(THREE, halvings_of_time=1),
    "three, time never halved": replace(THREE, halvings_of_time=0, blocks=2),
    "three, same width": replace(THREE, multipliers=(2, 2, 2), channels=16),
    "three, four times wider": replace(THREE, multipliers=(1, 4, 4)),
    "five": RefinerConfig(channels=16, width=16),
}
SIZES = {"even": (2, 4, 2), "odd": (1, 3, 5), "one pixel": (1, 1, 1)}  # batch, height, width of the latent


def build_theirs(config: RefinerConfig) -> AutoencoderKLHunyuanImageRefiner:
    return AutoencoderKLHunyuanImageRefiner(
        latent_channels=config.channels,
        block_out_channels=tuple(config.width * multiplier for multiplier in config.multipliers),
        layers_per_block=config.blocks,
        spatial_compression_ratio=config.downscale,
        temporal_compression_ratio=2**config.halvings_of_time,
    )


@cache
def build_toys(config: RefinerConfig):
    return build_pair(lambda: RefinerAutoencoder(config), lambda: build_theirs(config), fold_refiner)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_encode(config, size):
    found = compare_encode(build_toys(config), (size[0], size[1] * config.downscale, size[2] * config.downscale), frames=True)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_decode(config, size):
    found = compare_decode(build_toys(config), size, frames=True)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.long
@pytest.mark.parametrize("size", [(1, 2, 3)], ids=["odd"])
def test_public_width(size):
    """Needs 9 GB of memory."""
    pair = build_pair(lambda: RefinerAutoencoder(PUBLIC), lambda: build_theirs(PUBLIC), fold_refiner)
    found = compare_encode(pair, (size[0], 16 * size[1], 16 * size[2]), frames=True) | compare_decode(pair, size, frames=True)
    assert max(found.values()) < TOLERANCE, found
