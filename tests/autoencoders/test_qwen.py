"""The autoencoder of Qwen-Image: its public files to the last tensor, folding, and its list of stages."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from eightfold.autoencoders.qwen import TEMPORAL, QwenAutoencoder, fold_qwen
from eightfold.checkpoints.load import load_module
from eightfold.core.errors import WeightMismatch
from eightfold.nn.channelnorm import ChannelNorm
from eightfold.nn.frames import take_last_tap
from eightfold.nn.mapattention import attend
from eightfold.specs.network import QwenConfig
from layouts import count_numbers, read_layout
from weights import draw, randomise

PUBLIC = QwenConfig(channels=16)
TOY = QwenConfig(channels=4, width=16, multipliers=(1, 2, 2), blocks=1)
NEVER_FOR_PICTURES = {
    f"{place}.time_conv.{kind}"
    for place in (
        "encoder.down_blocks.5",
        "encoder.down_blocks.8",
        "decoder.up_blocks.0.upsamplers.0",
        "decoder.up_blocks.1.upsamplers.0",
    )
    for kind in ("weight", "bias")
}


def build_on_meta(config):
    with torch.device("meta"):
        return QwenAutoencoder(config)


def list_shapes(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def build_layout(name):
    return {key: torch.empty(shape, device="meta") for key, shape in read_layout(name).items()}


def test_the_public_file_folds_to_the_network():
    assert count_numbers(read_layout("qwen-image_vae")) == 126_892_531
    folded, model = fold_qwen(build_layout("qwen-image_vae")), build_on_meta(PUBLIC)
    assert list_shapes(folded) == list_shapes(model.state_dict())
    assert sum(weight.numel() for weight in model.parameters()) == 44_599_603


def test_what_is_left_out_acts_between_frames_only():
    layout = read_layout("qwen-image_vae")
    assert {*layout} - {*fold_qwen(build_layout("qwen-image_vae"))} == NEVER_FOR_PICTURES
    assert all(name.endswith(TEMPORAL) for name in NEVER_FOR_PICTURES)


def test_folded_weights_fold_to_themselves():
    once = fold_qwen({name: draw(*shape) for name, shape in list_shapes(randomise(QwenAutoencoder(TOY), seed=3).state_dict()).items()})
    twice = fold_qwen(once)
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert list_shapes(twice) == list_shapes(build_on_meta(TOY).state_dict())


def test_a_folded_kernel_holds_on_to_no_other_tap():
    weight = draw(4, 3, 3, 3, 3)
    folded = take_last_tap(weight)
    assert torch.equal(folded, weight[:, :, 2])
    assert folded.is_contiguous()
    assert folded.untyped_storage().nbytes() == weight.untyped_storage().nbytes() // 3


@torch.no_grad()
def test_a_kernel_padded_with_zeros_in_time_is_its_last_tap():
    frame, weight = draw(2, 3, 7, 5, seed=1), draw(4, 3, 3, 3, 3, seed=2)
    video = F.conv3d(F.pad(frame[:, :, None], (1, 1, 1, 1, 2, 0)), weight)[:, :, 0]
    assert torch.allclose(F.conv2d(frame, take_last_tap(weight), padding=1), video, rtol=0, atol=1e-5)


def test_what_does_not_belong_is_named():
    """Folding lets a tensor that it does not know through, and a norm or a kernel of a wrong size too: loading is strict."""
    tensors = randomise(QwenAutoencoder(TOY), seed=0).state_dict()
    tensors |= {"encoder.time.weight": torch.zeros(1), "encoder.norm_out.gamma": torch.zeros(32, 2, 1, 1)}
    with pytest.raises(WeightMismatch, match=r"1 unknown \(encoder.time.weight\).*encoder.norm_out.gamma is \[32, 2, 1, 1\]"):
        load_module(lambda: QwenAutoencoder(TOY), fold_qwen(tensors), source="a file")


@torch.no_grad()
def test_the_norm_gives_every_pixel_the_length_1():
    x = draw(2, 6, 3, 4) * torch.logspace(-3, 3, 4)
    norm = ChannelNorm(6)
    assert torch.allclose(norm(x).square().mean(dim=1), torch.ones(2, 3, 4), rtol=1e-5)
    assert torch.allclose(norm(1000 * x), norm(x), rtol=1e-5)
    assert torch.equal(norm(torch.zeros(1, 6, 1, 1)), torch.zeros(1, 6, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_the_norm_sums_in_float32(dtype):
    """The squares of 512 times 30,000 are far outside of what float16 holds."""
    x = torch.full((1, 512, 2, 2), 30_000.0, dtype=dtype)
    normed = ChannelNorm(512).to(dtype)(x)
    assert normed.dtype == dtype
    assert torch.equal(normed, torch.ones_like(normed))


@torch.no_grad()
def test_attention_over_pixels_is_softmax_of_products():
    q, k, v = (draw(2, 5, 3, 4, seed=seed) for seed in range(3))
    weights = torch.softmax(torch.einsum("bci, bcj -> bij", q.flatten(2), k.flatten(2)) / 5**0.5, dim=-1)
    expected = torch.einsum("bij, bcj -> bci", weights, v.flatten(2)).unflatten(2, (3, 4))
    assert torch.allclose(attend(q, k, v), expected, rtol=0, atol=1e-5)
