"""The autoencoder of HunyuanImage 2.1 against the one of diffusers, on the same random weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from diffusers import AutoencoderKLHunyuanImage

from eightfold.autoencoders.hunyuan import HunyuanAutoencoder, fold_hunyuan
from eightfold.specs.network import HunyuanConfig
from frames import build_pair, compare_decode, compare_encode
from weights import list_norms

TOLERANCE = 1e-4
PUBLIC = HunyuanConfig(channels=64)
TWO = HunyuanConfig(channels=4, width=32, multipliers=(1, 2), blocks=1)  # theirs has 32 groups whatever the width

CONFIGS = {
    "two": TWO,
    "two, same width": replace(TWO, multipliers=(2, 2)),
    "two, four times wider": replace(TWO, multipliers=(1, 4)),
    "two, 32 channels": replace(TWO, channels=32, blocks=2),  # nothing to average before the latent
    "three": replace(TWO, channels=16, multipliers=(1, 2, 2)),
    "six": HunyuanConfig(channels=16, width=32, multipliers=(1, 1, 2, 2, 4, 4), blocks=1),
}
SIZES = {"even": (2, 4, 2), "odd": (1, 3, 5), "one pixel": (1, 1, 1)}  # batch, height, width of the latent


def build_theirs(config: HunyuanConfig) -> AutoencoderKLHunyuanImage:
    return AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=config.channels,
        block_out_channels=tuple(config.width * multiplier for multiplier in config.multipliers),
        layers_per_block=config.blocks,
        spatial_compression_ratio=config.downscale,
        sample_size=384,
    )


@cache
def build_toys(config: HunyuanConfig):
    return build_pair(lambda: HunyuanAutoencoder(config), lambda: build_theirs(config), fold_hunyuan)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_encode(config, size):
    found = compare_encode(build_toys(config), (size[0], size[1] * config.downscale, size[2] * config.downscale), frames=False)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_decode(config, size):
    found = compare_decode(build_toys(config), size, frames=False)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("config", [*CONFIGS.values(), PUBLIC], ids=[*CONFIGS, "public"])
def test_norms(config):
    """Groups and epsilons agree one by one; the difference between 1e-5 and 1e-6 drowns in the tolerance above."""
    with torch.device("meta"):
        ours, theirs = HunyuanAutoencoder(config), build_theirs(config)
    assert list_norms(ours) == list_norms(theirs)


@pytest.mark.long
@pytest.mark.parametrize("size", [(1, 2, 4), (1, 3, 1)], ids=["even", "odd"])
def test_public_width(size):
    pair = build_pair(lambda: HunyuanAutoencoder(PUBLIC), lambda: build_theirs(PUBLIC), fold_hunyuan)
    found = compare_encode(pair, (size[0], 32 * size[1], 32 * size[2]), frames=False) | compare_decode(pair, size, frames=False)
    assert max(found.values()) < TOLERANCE, found
