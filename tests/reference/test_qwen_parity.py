"""The autoencoder of Qwen-Image against the video network of diffusers, on the same random weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from diffusers import AutoencoderKLQwenImage

from eightfold.autoencoders.qwen import TEMPORAL, QwenAutoencoder, fold_qwen
from eightfold.specs.network import QwenConfig
from frames import build_pair, compare_decode, compare_encode

TOLERANCE = 1e-5  # measured here: 2e-6
PUBLIC = QwenConfig(channels=16)
TWO = QwenConfig(channels=4, width=16, multipliers=(1, 2), blocks=1)

CONFIGS = {
    "two": TWO,
    "two, same width": replace(TWO, multipliers=(2, 2)),
    "two, narrower below": replace(TWO, multipliers=(2, 1), blocks=2),
    "three, 16 channels": replace(TWO, channels=16, multipliers=(1, 3, 2)),
    "four": QwenConfig(channels=16, width=8),
}
SIZES = {"even": (2, 4, 6), "odd": (1, 5, 3), "one pixel": (1, 1, 1)}  # batch, height, width of the latent


def build_theirs(config: QwenConfig) -> AutoencoderKLQwenImage:
    halvings = len(config.multipliers) - 1
    return AutoencoderKLQwenImage(
        base_dim=config.width,
        z_dim=config.channels,
        dim_mult=list(config.multipliers),
        num_res_blocks=config.blocks,
        temperal_downsample=[index > 0 or halvings == 1 for index in range(halvings)],
    )


@cache
def build_toys(config: QwenConfig):
    return build_pair(lambda: QwenAutoencoder(config), lambda: build_theirs(config), fold_qwen)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_encode(config, size):
    found = compare_encode(build_toys(config), (size[0], size[1] * config.downscale, size[2] * config.downscale), frames=True)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_decode(config, size):
    found = compare_decode(build_toys(config), size, frames=True, limit=1.0)
    assert max(found.values()) < TOLERANCE, found


@torch.no_grad()
def test_the_convolutions_over_time_are_what_is_left_out():
    """The names that folding drops exist in every toy above, and their own network does not use them for a picture either."""
    theirs = build_toys(CONFIGS["four"])[1]
    dropped = [name for name in theirs.state_dict() if name.endswith(TEMPORAL)]
    assert len(dropped) == 8
    image = torch.rand(1, 3, 1, 16, 16)
    before = theirs(image).sample
    broken = {name: torch.full_like(theirs.state_dict()[name], torch.nan) for name in dropped}
    kept = {name: theirs.state_dict()[name].clone() for name in dropped}
    try:
        theirs.load_state_dict(broken, strict=False)
        assert torch.equal(theirs(image).sample, before)
    finally:
        theirs.load_state_dict(kept, strict=False)


@pytest.mark.long
@pytest.mark.parametrize("size", [(1, 4, 6), (1, 5, 3)], ids=["even", "odd"])
def test_public_width(size):
    pair = build_pair(lambda: QwenAutoencoder(PUBLIC), lambda: build_theirs(PUBLIC), fold_qwen)
    found = compare_encode(pair, (size[0], 8 * size[1], 8 * size[2]), frames=True) | compare_decode(pair, size, frames=True, limit=1.0)
    assert max(found.values()) < 1e-4, found
