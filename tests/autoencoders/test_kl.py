"""The KL autoencoder: the public layout to the last tensor, and its list of stages."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.autoencoders.posterior import Posterior
from eightfold.families.spaces import SD
from eightfold.nn.stages import State
from eightfold.specs.network import KLConfig
from layouts import count_numbers, read_layout
from weights import draw, randomise

TOY = KLConfig(channels=4, width=16, multipliers=(1, 2, 2), blocks=1, groups=8)


def build_on_meta(config):
    with torch.device("meta"):
        return KLAutoencoder(config)


def run_loop(stages, x):
    state = State()
    for stage in stages:
        x = stage(x, state)
    return x


@pytest.fixture(scope="module")
def toy():
    return randomise(KLAutoencoder(TOY), seed=0)


def test_parameters_of_stable_diffusion():
    model = build_on_meta(SD.autoencoder)
    assert sum(weight.numel() for weight in model.parameters()) == 83_653_863
    assert sum(weight.numel() for weight in model.encoder.parameters()) == 34_163_592
    assert sum(weight.numel() for weight in model.decoder.parameters()) == 49_490_179


@pytest.mark.parametrize(
    ("layout", "config"),
    [("sd1_vae", SD.autoencoder), ("sdxl_vae", KLConfig(channels=4)), ("sd3_vae", KLConfig(channels=16, quant_convs=False))],
)
def test_layout(layout, config):
    state = build_on_meta(config).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == read_layout(layout)
    assert sum(tensor.numel() for tensor in state.values()) == count_numbers(read_layout(layout))


@torch.no_grad()
def test_encode_is_the_loop_over_its_stages(toy):
    image = draw(1, 3, 16, 12)
    mean, log_variance = run_loop(toy.encoder_stages(), image).chunk(2, dim=1)
    posterior = toy.encode(image)
    assert torch.equal(posterior.mean, mean)
    assert torch.equal(posterior.std, (log_variance / 2).exp())


@torch.no_grad()
def test_decode_is_the_loop_over_its_stages(toy):
    raw = draw(1, 4, 3, 5)
    assert torch.equal(toy.decode(raw), run_loop(toy.decoder_stages(), raw))


@torch.no_grad()
def test_forward_is_there_and_back(toy):
    image = draw(1, 3, 8, 8)
    assert torch.equal(toy(image), toy.decode(toy.encode(image).mode))


@pytest.mark.parametrize("quant_convs", [True, False])
def test_every_weight_is_in_one_stage(quant_convs):
    model = build_on_meta(KLConfig(channels=4, width=16, multipliers=(1, 2), groups=8, quant_convs=quant_convs))
    stages = [*model.encoder_stages(), *model.decoder_stages()]
    weights = [id(weight) for stage in stages if isinstance(stage, nn.Module) for weight in stage.parameters()]
    assert sorted(weights) == sorted(id(weight) for weight in model.parameters())


@torch.no_grad()
def test_a_picture_does_not_see_the_others_of_its_batch(toy):
    """Exact in real numbers; a convolution may add up in another order for another batch size, which leaves some 1e-6 here."""
    images = draw(3, 3, 16, 12)
    whole = toy(images)
    parts = torch.cat([toy(image[None]) for image in images])
    assert whole.std() > 0.1
    assert torch.allclose(whole, parts, rtol=0, atol=2e-5)


def test_gradients_reach_every_weight():
    model = randomise(KLAutoencoder(TOY), seed=1)
    posterior = model.encode(draw(2, 3, 16, 16))
    decoded = model.decode(posterior.sample(draw(*posterior.mean.shape, seed=1)))
    (decoded.square().mean() + posterior.std.mean()).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        # softmax does not change when one number is added to a whole row: this one bias has no effect at all
        assert name.endswith("to_k.bias") or weight.grad.abs().max() > 1e-5, name


@pytest.mark.parametrize(("value", "std"), [(100.0, math.exp(10)), (-100.0, math.exp(-15)), (0.0, 1.0), (2.0, math.e)])
@torch.no_grad()
def test_the_log_variance_is_clamped(value, std):
    model = randomise(KLAutoencoder(KLConfig(channels=2, width=8, multipliers=(1, 2), blocks=1, groups=4, quant_convs=False)), seed=2)
    model.encoder.conv_out.weight[2:] = 0
    model.encoder.conv_out.bias[2:] = value
    found = model.encode(draw(1, 3, 8, 8)).std
    assert found.shape == (1, 2, 4, 4)
    assert torch.allclose(found, torch.full_like(found, std), rtol=1e-6, atol=0)


def test_the_posterior():
    posterior = Posterior(draw(1, 4, 2, 2), draw(1, 4, 2, 2, seed=1).abs())
    noise = draw(1, 4, 2, 2, seed=2)
    assert torch.equal(posterior.mode, posterior.mean)
    assert torch.equal(posterior.sample(torch.zeros_like(noise)), posterior.mode)
    assert torch.allclose((posterior.sample(noise) - posterior.mode) / posterior.std, noise, atol=1e-5)


@torch.no_grad()
def test_shapes_follow_the_downscale(toy):
    assert TOY.downscale == 4
    assert toy.encode(draw(1, 3, 16, 24)).mean.shape == (1, 4, 4, 6)
    assert toy.decode(draw(1, 4, 4, 6)).shape == (1, 3, 16, 24)
