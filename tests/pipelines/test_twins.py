"""Spaces with the same tensors told apart by their latents."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.core.errors import RequestError
from eightfold.families.spaces import POCKET
from eightfold.pipelines.bundle import load_autoencoder
from eightfold.pipelines.references import draw_references
from eightfold.pipelines.twins import LEAST, measure_spaces
from eightfold.specs.space import Normalisation

SETS = 20
TWINS = ((1.40, 0.0), (4.2, 0.5))  # factor and shift of the raw latents, as sd to sdxl and flux1 to sd3


draw_set = cache(draw_references)


@cache
def load_own():
    return load_autoencoder("pocket")


def rescale(codec, factor, shift):
    """The same autoencoder with raw latents `factor * raw + shift`, exactly, through its quant convolutions."""
    tensors = {name: tensor.clone() for name, tensor in codec.network.state_dict().items()}
    channels = codec.space.channels
    for part in ("weight", "bias"):
        tensors[f"quant_conv.{part}"][:channels] *= factor
    tensors["quant_conv.bias"][:channels] += shift
    after = tensors["post_quant_conv.weight"]
    tensors["post_quant_conv.bias"] -= (after.flatten(1) * (shift / factor)).sum(dim=1)
    tensors["post_quant_conv.weight"] = after / factor
    network = KLAutoencoder(codec.space.autoencoder)
    network.load_state_dict(tensors)
    return replace(codec, network=network.eval())


def to_space(name, factor, shift):
    own = load_own().normalisation
    numbers = Normalisation(scale=tuple(one / factor for one in own.scale), shift=tuple(one * factor + shift for one in own.shift))
    return replace(POCKET, name=name, normalisation=numbers)


@pytest.mark.parametrize(("factor", "shift"), TWINS)
def test_the_rescaled_autoencoder_is_the_same_to_the_eye(factor, shift):
    own, twin, image = load_own(), rescale(load_own(), factor, shift), draw_references()[0]
    raw, other = own.encode(image).raw, twin.encode(image).raw
    assert torch.allclose(other, factor * raw + shift, atol=1e-4)
    assert torch.allclose(own.decode_raw(raw), twin.decode_raw(other), atol=1e-3)


@pytest.mark.parametrize(("factor", "shift"), TWINS)
def test_twins_are_told_apart_on_twenty_sets_of_pictures(factor, shift):
    spaces = [to_space("first", 1.0, 0.0), to_space("second", factor, shift)]
    twins = {"first": load_own(), "second": rescale(load_own(), factor, shift)}
    for name, codec in twins.items():
        verdicts = [measure_spaces(codec, spaces, draw_set(seed)) for seed in range(SETS)]
        assert all(verdict.space == (name if verdict.margin >= LEAST else None) for verdict in verdicts)
        assert all(verdict.measured[0].space == name for verdict in verdicts)
        assert sum(verdict.space is None for verdict in verdicts) <= 2


def test_dim_pictures_do_not_mislead():
    codec, spaces = load_own(), [to_space("first", 1.0, 0.0), to_space("second", 1.4, 0.0)]
    for contrast in (0.3, 0.6):
        images = [image * contrast for image in draw_set(1)]
        assert measure_spaces(codec, spaces, images).space == "first"


def test_between_two_spaces_it_cannot_tell():
    spaces = [to_space("first", 1.0, 0.0), to_space("second", 1.4, 0.0)]
    sure = measure_spaces(load_own(), spaces, draw_set(0))
    verdict = measure_spaces(rescale(load_own(), 1.4**0.5 / sure.measured[0].spread, 0.0), spaces, draw_set(0))
    assert verdict.space is None and verdict.margin == pytest.approx(0.0, abs=0.01)
    assert len(verdict.std) == 4 and verdict.pictures == len(draw_set(0))
    with pytest.raises(RequestError, match="one colour"):
        measure_spaces(load_own(), spaces, [torch.zeros(1, 3, 16, 16)] * 2)
