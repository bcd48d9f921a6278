"""What holds of every autoencoder that is a list of stages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eightfold.autoencoders.build import build_autoencoder
from eightfold.nn.stages import State
from eightfold.specs.network import HunyuanConfig, KLConfig, QwenConfig, RefinerConfig
from weights import draw, randomise

PUBLIC = {
    "kl": KLConfig(channels=4),
    "qwen": QwenConfig(channels=16),
    "hunyuan": HunyuanConfig(channels=64),
    "refiner": RefinerConfig(channels=32),
}
TOYS = {
    "kl": KLConfig(channels=4, width=16, multipliers=(1, 2, 2), blocks=1, groups=8),
    "qwen": QwenConfig(channels=4, width=16, multipliers=(1, 2, 2), blocks=1),
    "hunyuan": HunyuanConfig(channels=4, width=16, multipliers=(1, 2, 4), blocks=1, groups=8),
    "refiner": RefinerConfig(channels=4, width=16, multipliers=(1, 2, 2), blocks=1),
}
DOWNSCALE = {"kl": 8, "qwen": 8, "hunyuan": 32, "refiner": 16}


@pytest.fixture(scope="module", params=[*TOYS])
def toy(request):
    return randomise(build_autoencoder(TOYS[request.param]), seed=0)


def run_loop(stages, x):
    state = State()
    for stage in stages:
        x = stage(x, state)
    assert not state.skips
    return x


@torch.no_grad()
def test_both_ways_are_the_loop_over_their_stages(toy):
    image, raw = draw(1, 3, 16, 12), draw(1, 4, 3, 5)
    mean, log_variance = run_loop(toy.encoder_stages(), image).chunk(2, dim=1)
    posterior = toy.encode(image)
    assert torch.equal(posterior.mean, mean)
    assert torch.equal(posterior.std, (log_variance.clamp(-30, 20) / 2).exp())
    assert torch.equal(toy.decode(raw), run_loop(toy.decoder_stages(), raw))
    assert torch.equal(toy(image), toy.decode(posterior.mode))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_weight_is_in_one_stage(name):
    with torch.device("meta"):
        model = build_autoencoder(PUBLIC[name])
    stages = [*model.encoder_stages(), *model.decoder_stages()]
    weights = [id(weight) for stage in stages if isinstance(stage, nn.Module) for weight in stage.parameters()]
    assert sorted(weights) == sorted(id(weight) for weight in model.parameters())


@torch.no_grad()
def test_shapes_follow_the_downscale(toy):
    assert toy.encode(draw(1, 3, 16, 24)).mean.shape == (1, 4, 4, 6)
    assert toy.decode(draw(1, 4, 4, 6)).shape == (1, 3, 16, 24)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_downscale(name):
    assert (PUBLIC[name].downscale, TOYS[name].downscale) == (DOWNSCALE[name], 4)


@pytest.mark.parametrize("name", TOYS)
def test_gradients_reach_every_weight(name):
    model = randomise(build_autoencoder(TOYS[name]), seed=1)
    posterior = model.encode(draw(2, 3, 16, 16))
    decoded = model.decode(posterior.sample(draw(*posterior.mean.shape, seed=1)))
    (decoded.square().mean() + posterior.std.mean()).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
        assert name.endswith("to_k.bias") or weight.grad.abs().max() > 1e-6, name  # softmax does not see this bias
