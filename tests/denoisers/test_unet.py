"""The U-Net: the public layout to the last tensor, and its list of stages."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from eightfold.denoisers.unet import UNet
from eightfold.families.sd1 import SD1
from eightfold.nn.position import to_sinusoid
from eightfold.nn.stages import State, join_skip, save_skip
from eightfold.specs.network import UNetConfig
from layouts import count_numbers, read_layout
from weights import draw, randomise

TOY = UNetConfig(channels=4, out_channels=4, context=12, width=16, multipliers=(1, 2, 2), blocks=1, attention=(0, 1, 0), heads=2, groups=8)
SD2 = replace(SD1.denoiser, context=1024, heads=None, head_width=64, linear_projection=True)
TIMES = torch.tensor([0.0, 512.5, 999.0])


def build_on_meta(config):
    with torch.device("meta"):
        return UNet(config)


@pytest.fixture(scope="module")
def toy():
    return randomise(UNet(TOY), seed=0)


def test_parameters_of_stable_diffusion():
    assert sum(weight.numel() for weight in build_on_meta(SD1.denoiser).parameters()) == 859_520_964


@pytest.mark.parametrize(
    ("layout", "config"),
    [
        ("sd1_denoiser", SD1.denoiser),
        ("sd2_denoiser", replace(SD1.denoiser, context=1024, heads=None, head_width=64, linear_projection=True)),
    ],
)
def test_layout(layout, config):
    state = build_on_meta(config).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == read_layout(layout)
    assert sum(tensor.numel() for tensor in state.values()) == count_numbers(read_layout(layout))


@pytest.mark.parametrize("size", [(8, 12), (9, 7)])
@torch.no_grad()
def test_forward_is_the_loop_over_its_stages(toy, size):
    x, tokens = draw(3, 4, *size), draw(3, 5, 12, seed=1)
    expected = toy(x, TIMES, tokens)
    state = State(time=toy.time_embedding(to_sinusoid(TIMES, TOY.width)), tokens=tokens)
    for stage in toy.stages():
        x = stage(x, state)
    assert torch.equal(x, expected)
    assert not state.skips


def test_every_weight_is_in_one_stage():
    model = build_on_meta(SD1.denoiser)
    parts = [model.time_embedding, *(stage for stage in model.stages() if isinstance(stage, nn.Module))]
    weights = [id(weight) for part in parts for weight in part.parameters()]
    assert sorted(weights) == sorted(id(weight) for weight in model.parameters())


def test_every_skip_is_used_once():
    stages = build_on_meta(SD1.denoiser).stages()
    assert stages.count(save_skip) == stages.count(join_skip) == 12


@torch.no_grad()
def test_a_picture_does_not_see_the_others_of_its_batch(toy):
    """Exact in real numbers; a convolution may add up in another order for another batch size, which leaves some 1e-6 here."""
    noisy, tokens = draw(3, 4, 8, 8), draw(3, 5, 12, seed=1)
    whole = toy(noisy, TIMES, tokens)
    parts = torch.cat([toy(noisy[n : n + 1], TIMES[n : n + 1], tokens[n : n + 1]) for n in range(3)])
    assert whole.std() > 0.1
    assert torch.allclose(whole, parts, rtol=0, atol=2e-5)


@torch.no_grad()
def test_time_and_text_matter(toy):
    noisy, tokens = draw(1, 4, 8, 8), draw(1, 5, 12, seed=1)
    here = toy(noisy, TIMES[:1], tokens)
    assert (here - toy(noisy, TIMES[1:2], tokens)).abs().max() > 0.01
    assert (here - toy(noisy, TIMES[:1], draw(1, 5, 12, seed=2))).abs().max() > 0.01


def test_gradients_reach_every_weight():
    model = randomise(UNet(replace(TOY, attention=(1, 2, 1), middle=2)), seed=1)
    model(draw(2, 4, 12, 12), TIMES[:2], draw(2, 5, 12, seed=1)).square().mean().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 1e-6, name


def test_text_is_asked_for(toy):
    with pytest.raises(ValueError, match="tokens"):
        toy(draw(1, 4, 8, 8), TIMES[:1])


def test_heads():
    assert [SD1.denoiser.to_heads(width) for width in (320, 640, 1280)] == [8, 8, 8]
    assert [SD2.to_heads(width) for width in (320, 640, 1280)] == [5, 10, 20]


def test_sinusoid():
    found = to_sinusoid(torch.tensor([0.0, 2.5]), 8)
    frequencies = torch.tensor([1.0, 0.1, 0.01, 0.001])
    assert torch.equal(found[0], torch.tensor([1.0] * 4 + [0.0] * 4))
    assert torch.allclose(found[1], torch.cat([(2.5 * frequencies).cos(), (2.5 * frequencies).sin()]), atol=1e-6)
