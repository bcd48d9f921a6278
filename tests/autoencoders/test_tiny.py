"""The tiny autoencoder and the one that does nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eightfold.autoencoders.identity import IdentityAutoencoder
from eightfold.autoencoders.tiny import BOUND, TinyAutoencoder
from eightfold.nn.stages import run_stages
from eightfold.specs.network import IdentityConfig, TinyConfig
from weights import draw, randomise

TOY = TinyConfig(channels=4, width=8, blocks=(1, 2, 1), last=2)


@pytest.fixture(scope="module")
def toy():
    return randomise(TinyAutoencoder(TOY), seed=0)


@pytest.mark.parametrize(("channels", "numbers"), [(4, 2_445_063), (16, 2_458_899)])
def test_numbers_of_the_public_network(channels, numbers):
    with torch.device("meta"):
        network = TinyAutoencoder(TinyConfig(channels=channels))
    assert sum(weight.numel() for weight in network.parameters()) == numbers


@torch.no_grad()
def test_it_is_the_loop_over_its_stages(toy):
    image, latent = draw(1, 3, 8, 12), draw(1, 4, 2, 3)
    posterior = toy.encode(image)
    assert torch.equal(posterior.mean, run_stages(toy.encoder_stages(), image)) and not posterior.std.any()
    assert torch.equal(toy.decode(latent), run_stages(toy.decoder_stages(), latent))
    assert torch.equal(toy(image), toy.decode(posterior.mode))


def test_every_weight_is_in_one_stage(toy):
    stages = [*toy.encoder_stages(), *toy.decoder_stages()]
    weights = [id(weight) for stage in stages if isinstance(stage, nn.Module) for weight in stage.parameters()]
    assert sorted(weights) == sorted(id(weight) for weight in toy.parameters())


@torch.no_grad()
def test_shapes_follow_the_downscale(toy):
    assert TOY.downscale == 4 and TinyConfig(channels=4).downscale == 8
    assert toy.encode(draw(2, 3, 16, 24)).mean.shape == (2, 4, 4, 6)
    assert toy.decode(draw(2, 4, 4, 6)).shape == (2, 3, 16, 24)


@torch.no_grad()
def test_wild_latents_are_squeezed(toy):
    """Beyond the bound nothing changes any more."""
    sign = draw(1, 4, 3, 3).sign()
    assert torch.allclose(toy.decode(sign * 1e6), toy.decode(sign * 100 * BOUND))
    assert not torch.allclose(toy.decode(sign * BOUND), toy.decode(sign * 100 * BOUND))


def test_gradients_reach_every_weight():
    network = randomise(TinyAutoencoder(TOY), seed=1)
    network(draw(2, 3, 16, 16)).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in network.parameters())


def test_nothing_is_lost_where_there_is_no_network():
    network, image = IdentityAutoencoder(IdentityConfig()), draw(1, 3, 5, 7)
    assert torch.equal(network.encode(image).mean, image) and not network.encode(image).std.any()
    assert torch.equal(network.decode(image), image)
    assert not list(network.state_dict())
