"""The autoencoder of HunyuanImage 2.1: its public file to the last tensor, its shortcuts, and its list of stages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eightfold.autoencoders.hunyuan import HunyuanAutoencoder, fold_hunyuan
from eightfold.checkpoints.load import load_module
from eightfold.core.errors import WeightMismatch
from eightfold.nn.packing import PackDown, PackUp, average_channels, pack, repeat_channels, unpack
from eightfold.nn.stages import State
from eightfold.specs.network import HunyuanConfig
from layouts import count_numbers, read_layout
from weights import draw, randomise

PUBLIC = HunyuanConfig(channels=64)
TOY = HunyuanConfig(channels=4, width=16, multipliers=(1, 2, 4), blocks=1, groups=8)


def build_on_meta(config):
    with torch.device("meta"):
        return HunyuanAutoencoder(config)


def list_shapes(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def test_the_public_file_is_the_network():
    layout, model = read_layout("hunyuan-image-2.1_vae"), build_on_meta(PUBLIC)
    assert list_shapes(fold_hunyuan({name: torch.empty(shape, device="meta") for name, shape in layout.items()})) == layout
    assert list_shapes(model.state_dict()) == layout
    assert sum(weight.numel() for weight in model.parameters()) == count_numbers(layout) == 405_575_491
    assert sum(weight.numel() for weight in model.encoder.parameters()) == 145_007_552
    assert sum(weight.numel() for weight in model.decoder.parameters()) == 260_567_939


def test_a_frame_axis_of_one_entry_is_dropped():
    expected = randomise(HunyuanAutoencoder(TOY), seed=1).state_dict()
    found = fold_hunyuan({name: tensor[:, :, None] if tensor.ndim == 4 else tensor for name, tensor in expected.items()})
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_frame_axis_of_more_is_named():
    tensors = {name: torch.empty(tensor.shape) for name, tensor in build_on_meta(TOY).state_dict().items()}
    tensors["decoder.conv_out.weight"] = torch.empty(3, 16, 3, 3, 3)
    with pytest.raises(WeightMismatch, match=r"decoder.conv_out.weight is \[3, 16, 3, 3, 3\], expected \[3, 16, 3, 3\]"):
        load_module(lambda: HunyuanAutoencoder(TOY), fold_hunyuan(tensors), source="a file")


def test_packing_counts_the_row_most_then_the_column_then_the_channel():
    """Pixel (row, column) of channel c goes to channel (2 * row + column) * channels + c."""
    x = draw(2, 3, 4, 6)
    packed = pack(x)
    assert packed.shape == (2, 12, 2, 3)
    for row, column, channel in [(0, 0, 0), (0, 1, 2), (1, 0, 1), (1, 1, 2)]:
        assert torch.equal(packed[:, (2 * row + column) * 3 + channel], x[:, channel, row::2, column::2])
    assert torch.equal(unpack(packed), x)


def test_channels_are_averaged_and_repeated_as_neighbours():
    x = torch.arange(6.0)[None, :, None, None]
    assert average_channels(x, 3).flatten().tolist() == [0.5, 2.5, 4.5]
    assert repeat_channels(average_channels(x, 3), 6).flatten().tolist() == [0.5, 0.5, 2.5, 2.5, 4.5, 4.5]
    assert torch.equal(average_channels(repeat_channels(x, 24), 6), x)


@torch.no_grad()
def test_without_their_convolutions_down_undoes_up():
    """What is left are the shortcuts, and repeating is undone by averaging."""
    up, down = PackUp(16, 8), PackDown(8, 16)
    for part in (up, down):
        nn.init.zeros_(part.conv.weight)
        nn.init.zeros_(part.conv.bias)
    x = draw(1, 16, 3, 5)
    assert up(x, State()).shape == (1, 8, 6, 10)
    assert torch.allclose(down(up(x, State()), State()), x, atol=1e-6)
