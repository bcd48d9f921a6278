"""Every config has its network, and weights of files over time become weights in the plane."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from eightfold.autoencoders.build import FOLDS, NETWORKS, build_autoencoder, fold_weights
from eightfold.families.spaces import SPACES
from eightfold.specs.network import AutoencoderConfig, HunyuanConfig, KLConfig, QwenConfig, RefinerConfig
from layouts import read_layout


def test_every_config_has_one_network():
    assert set(NETWORKS) == {*get_args(AutoencoderConfig)}
    assert len({*NETWORKS.values()}) == len(NETWORKS) and set(FOLDS) <= set(NETWORKS)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_the_network_is_that_of_the_config(space):
    with torch.device("meta"):
        network = build_autoencoder(space.autoencoder)
    assert type(network) is NETWORKS[type(space.autoencoder)]


@pytest.mark.parametrize(
    ("config", "layout"),
    [
        (KLConfig(channels=4), "sd1_vae"),
        (QwenConfig(channels=16), "qwen-image_vae"),
        (HunyuanConfig(channels=64), "hunyuan-image-2.1_vae"),
        (RefinerConfig(channels=32), "hunyuan-image-2.1-refiner_vae"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_folded_public_weights_fit(config, layout):
    with torch.device("meta"):
        expected = build_autoencoder(config).state_dict()
        folded = fold_weights(config, {name: torch.empty(shape) for name, shape in read_layout(layout).items()})
    assert {name: tensor.shape for name, tensor in folded.items()} == {name: tensor.shape for name, tensor in expected.items()}
