"""The autoencoder of HunyuanImage 2.1's refiner: its public file to the last tensor, folding, and its list of stages."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from eightfold.autoencoders.refiner import RefinerAutoencoder, fold_refiner
from eightfold.nn.frames import EdgeConvolution, add_taps
from eightfold.nn.packing import PackDown
from eightfold.specs.network import RefinerConfig
from layouts import count_numbers, read_layout
from weights import draw, randomise

PUBLIC = RefinerConfig(channels=32)
TOY = RefinerConfig(channels=4, width=16, multipliers=(1, 2, 2), blocks=1)
WAY_UP = "decoder.up_blocks.0.upsamplers.0.conv.conv"


def build_on_meta(config):
    with torch.device("meta"):
        return RefinerAutoencoder(config)


def list_shapes(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def test_the_public_file_folds_to_the_network():
    layout, model = read_layout("hunyuan-image-2.1-refiner_vae"), build_on_meta(PUBLIC)
    assert count_numbers(layout) == 1_260_634_115
    folded = fold_refiner({name: torch.empty(shape, device="meta") for name, shape in layout.items()})
    assert folded.keys() == layout.keys()
    assert list_shapes(folded) == list_shapes(model.state_dict())
    assert sum(weight.numel() for weight in model.parameters()) == 369_242_627


def test_only_a_way_up_that_doubles_time_loses_rows():
    layout = read_layout("hunyuan-image-2.1-refiner_vae")
    folded = list_shapes(fold_refiner({name: torch.empty(shape, device="meta") for name, shape in layout.items()}))
    fewer = {name: (layout[name][0], folded[name][0]) for name in layout if layout[name][0] != folded[name][0]}
    assert fewer == {
        f"decoder.up_blocks.{level}.upsamplers.0.conv.conv.{kind}": rows
        for level, rows in enumerate([(8192, 4096), (4096, 2048)])
        for kind in ("weight", "bias")
    }


def test_the_rows_of_the_first_frame_are_kept():
    """The rows of a way up that doubles time count pixels, then frames, then channels."""
    rows = torch.arange(4 * 2 * 32.0)
    tensors = {f"{WAY_UP}.bias": rows, "decoder.up_blocks.1.resnets.0.norm1.gamma": torch.ones(32, 1, 1, 1)}
    assert fold_refiner(tensors)[f"{WAY_UP}.bias"].tolist() == [64 * pixel + channel for pixel in range(4) for channel in range(32)]
    tensors = {f"{WAY_UP}.bias": rows[:128], "decoder.up_blocks.1.resnets.0.norm1.gamma": torch.ones(32, 1, 1, 1)}
    assert torch.equal(fold_refiner(tensors)[f"{WAY_UP}.bias"], rows[:128])


def test_folded_weights_fold_to_themselves():
    once = randomise(RefinerAutoencoder(TOY), seed=3).state_dict()
    twice = fold_refiner(once)
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)


@torch.no_grad()
def test_a_kernel_padded_with_its_first_frame_is_the_sum_of_its_taps():
    frame, weight = draw(2, 3, 7, 5, seed=1), draw(4, 3, 3, 3, 3, seed=2)
    video = F.conv3d(F.pad(frame[:, :, None], (1, 1, 1, 1, 2, 0), mode="replicate"), weight)[:, :, 0]
    convolution = EdgeConvolution(3, 4)
    convolution.conv.weight.copy_(add_taps(weight))
    nn.init.zeros_(convolution.conv.bias)
    assert torch.allclose(convolution(frame), video, rtol=0, atol=2e-5)


def test_taps_of_a_narrow_type_are_added_in_float32():
    weight = torch.tensor([256.0, 1.0, 1.0], dtype=torch.bfloat16)[None, None, :, None, None]
    assert add_taps(weight).item() == 258.0  # bfloat16 holds 256 and 258, but adding ones to 256 gets nowhere
    assert add_taps(weight).dtype == torch.float32
    assert add_taps(weight[:, :, :1]).dtype == torch.bfloat16  # nothing to add, nothing to widen


@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_the_ways_down_nearest_to_the_latent_are_taken_twice(halvings):
    model = build_on_meta(replace(TOY, halvings_of_time=halvings))
    copies = [part.copies for part in model.modules() if isinstance(part, PackDown)]
    assert copies == [1] * (2 - halvings) + [2] * halvings
