"""The autoencoder of FLUX.2: the KL network in the public layout, and statistics that it only carries."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from eightfold.autoencoders.flux2 import Flux2Autoencoder
from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.specs.network import Flux2Config
from layouts import read_layout
from weights import draw, randomise

TOY = Flux2Config(channels=4, width=16, decoder_width=16, multipliers=(1, 2), blocks=1, groups=8)


def build_on_meta(config):
    with torch.device("meta"):
        return Flux2Autoencoder(config)


@pytest.fixture(scope="module")
def toy():
    return randomise(Flux2Autoencoder(TOY), seed=0)


@torch.no_grad()
def test_it_is_the_kl_network(toy):
    plain = KLAutoencoder(TOY.to_kl(TOY.width)).eval()
    plain.load_state_dict({name: tensor for name, tensor in toy.state_dict().items() if not name.startswith("bn.")})
    image = draw(1, 3, 16, 12)
    assert torch.equal(toy.encode(image).mean, plain.encode(image).mean)
    assert torch.equal(toy.encode(image).std, plain.encode(image).std)
    assert torch.equal(toy.decode(toy.encode(image).mean), plain.decode(plain.encode(image).mean))


@torch.no_grad()
def test_statistics_play_no_part_in_it(toy):
    raw = draw(1, 4, 3, 5)
    before = toy.decode(raw)
    toy.bn.running_mean.fill_(3.0)
    assert torch.equal(toy.decode(raw), before)
    assert not [name for name, _ in toy.named_parameters() if name.startswith("bn.")]


def test_the_small_decoder_is_narrower():
    """base 96: 3/4 of the channels everywhere in the decoder, the encoder as it was."""
    public = read_layout("flux2_vae")
    found = {name: tuple(tensor.shape) for name, tensor in build_on_meta(Flux2Config(decoder_width=96)).state_dict().items()}
    assert set(found) == set(public)
    changed = {name for name in found if found[name] != public[name]}
    assert changed and all(name.startswith("decoder.") for name in changed)
    assert found["decoder.conv_out.weight"] == (3, 96, 3, 3) and found["decoder.conv_in.weight"] == (384, 32, 3, 3)


@torch.no_grad()
def test_widths_may_differ():
    network = randomise(Flux2Autoencoder(replace(TOY, decoder_width=8)), seed=1)
    assert network.decode(network.encode(draw(1, 3, 8, 12)).mean).shape == (1, 3, 8, 12)


def test_as_many_statistics_as_packed_channels():
    assert tuple(build_on_meta(Flux2Config()).bn.running_mean.shape) == (128,)
    assert tuple(build_on_meta(TOY).bn.running_var.shape) == (16,)
