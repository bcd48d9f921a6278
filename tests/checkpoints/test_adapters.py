"""Adapters out of files: every kind that trainers write, the scale each file means, and what is no adapter."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from adapterfile import to_tensors
from changes import EXAMPLES
from eightfold.checkpoints.adapterparts import split_name
from eightfold.checkpoints.adapters import read_adapter
from eightfold.checkpoints.load import MAPPED
from eightfold.core.errors import CheckpointError, WeightMismatch
from eightfold.nn.lora import attach
from eightfold.nn.lowrank import Decomposed
from weights import draw, randomise

UP, DOWN = draw(6, 2, seed=1), draw(2, 8, seed=2)
LINEAR = {"a.lora_down.weight": DOWN, "a.lora_up.weight": UP}
PEFT = {"base_model.model.b.a.lora_A.weight": DOWN, "base_model.model.b.a.lora_B.weight": UP}


def write(path, tensors, metadata=None):
    save_file({name: one.contiguous().clone() for name, one in tensors.items()}, path, metadata)
    return path


def read(path, tensors, metadata=None):
    return read_adapter(write(path / "adapter.safetensors", tensors, metadata))


def read_scale(path, tensors, metadata=None):
    (change,) = read(path, tensors, metadata).changes.values()
    return change.scale


@pytest.mark.parametrize("change", EXAMPLES.values(), ids=EXAMPLES)
@pytest.mark.parametrize("layer", [nn.Linear(16, 24), nn.Conv2d(16, 24, 3, padding=1)], ids=["linear", "convolution"])
@torch.no_grad()
def test_every_kind(tmp_path, layer, change):
    """Written as its trainer does, read and attached: the weight that the formula gives."""
    network = nn.Sequential(randomise(copy.deepcopy(layer), 4))
    x = draw(2, 16, 5, 6, seed=9) if isinstance(layer, nn.Conv2d) else draw(2, 16, seed=9)
    example = change(network[0], 5)
    expected = copy.deepcopy(network)
    expected[0].weight.data = example.weight
    adapter = read(tmp_path, {f"lora_unet_0.{name}": one for name, one in to_tensors(example.change, network[0]).items()})
    assert adapter.rest == ()
    attach(network, {"0": adapter.changes["lora_unet_0"]})
    assert ((network(x) - expected(x)).abs().max() / expected(x).std()).item() < 1e-5


@pytest.mark.parametrize(
    ("name", "layer", "part"),
    [
        ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "lora_unet_mid_block_attentions_0_proj_in", "down"),
        ("lora_te1_text_model_encoder_layers_3_mlp_fc1.alpha", "lora_te1_text_model_encoder_layers_3_mlp_fc1", "alpha"),
        ("a.attn1.processor.to_out_lora.up.weight", "a.attn1.processor.to_out", "up"),
        ("unet.a.attn1.to_q.lora.down.weight", "unet.a.attn1.to_q", "down"),
        ("text_encoder.a.q_proj.lora_linear_layer.up.weight", "text_encoder.a.q_proj", "up"),
        ("text_encoder.a.q_proj.lora_linear_layer.alpha", "text_encoder.a.q_proj", "alpha"),
        ("base_model.model.a.to_k.lora_B.default.weight", "base_model.model.a.to_k", "up"),
        ("base_model.model.a.to_k.lora_magnitude_vector", "base_model.model.a.to_k", "magnitude"),
        ("base_model.model.a.to_k.lora_magnitude_vector.weight", "base_model.model.a.to_k", "magnitude"),
        ("base_model.model.a.to_k.lora_magnitude_vector.style.weight", "base_model.model.a.to_k", "magnitude"),
        ("lycoris_a_conv1.lokr_w2_b", "lycoris_a_conv1", "lokr_w2_b"),
        ("a.hada_t2", "a", "hada_t2"),
        ("a.diff", "a", "diff"),
        ("a.diff_b", None, None),
        ("a.w_norm", None, None),
        ("a.lora_B.bias", None, None),
        ("a.lora_up.weight\n", None, None),
        ("a.alphas", None, None),
        (".alpha", None, None),
        ("model.diffusion_model.out.2.weight", None, None),
    ],
)
def test_names(name, layer, part):
    assert split_name(name) == (None if layer is None else (layer, part))


def test_a_lora_may_change_a_1x1_convolution_as_a_linear_map(tmp_path):
    """Stable Diffusion 1 and 2 have the same layer once as a convolution and once as a linear map."""
    adapter = read(tmp_path, {"a.lora_down.weight": DOWN[:, :, None, None], "a.lora_up.weight": UP[:, :, None, None]})
    assert adapter.changes["a"].fits(nn.Linear(8, 6))
    assert adapter.changes["a"].fits(nn.Conv2d(8, 6, 1))


def test_scales(tmp_path):
    assert read_scale(tmp_path, LINEAR) == 1.0
    assert read_scale(tmp_path, LINEAR | {"a.alpha": torch.tensor(4.0)}) == 2.0
    assert read_scale(tmp_path, LINEAR | {"a.alpha": torch.tensor([1], dtype=torch.int64)}) == 0.5
    lokr = {"a.lokr_w1": draw(2, 2), "a.lokr_w2_a": draw(3, 4), "a.lokr_w2_b": draw(4, 4), "a.alpha": torch.tensor(1.0)}
    assert read_scale(tmp_path, lokr) == 0.25


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"lora_alpha": 16, "r": 2}, 8.0),
        ({"lora_alpha": 3, "r": 2, "use_rslora": True}, 3 / 2**0.5),
        ({"lora_alpha": 16, "alpha_pattern": {"b.a": 5}}, 2.5),
        ({"lora_alpha": 16, "alpha_pattern": {"^base_model\\.model\\.b\\.a": 5}}, 2.5),
        ({"lora_alpha": 16, "alpha_pattern": {"ba": 5, "a.b": 3, "del.b.a": 2}}, 8.0),
        ({"r": 2}, 1.0),
    ],
)
def test_scales_of_peft(tmp_path, settings, scale):
    """Beside the file, in a folder of PEFT's, and in the metadata of diffusers'."""
    write(tmp_path / "adapter_model.safetensors", PEFT)
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    for path in (tmp_path, tmp_path / "adapter_model.safetensors"):
        (change,) = read_adapter(path).changes.values()
        assert change.scale == pytest.approx(scale)
    named = {f"unet.{name}": value for name, value in settings.items()}
    metadata = {"lora_adapter_metadata": json.dumps({"text_encoder.lora_alpha": 99, **named})}
    unet = {name.replace("base_model", "unet.base_model"): one for name, one in PEFT.items()}
    assert read_scale(tmp_path, unet, metadata) == pytest.approx(scale)


def test_settings_of_a_neighbour_do_not_count(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 16}')
    assert read_scale(tmp_path, PEFT) == 1.0


@pytest.mark.parametrize("shape", [(6,), (6, 1), (1, 6)])
def test_magnitudes_of_peft_are_those_of_rows(tmp_path, shape):
    """It keeps those of convolutions where LyCORIS keeps those of input channels."""
    layer = "base_model.model.b.a"
    change = read(tmp_path, PEFT | {f"{layer}.lora_magnitude_vector.weight": draw(*shape)}).changes[layer]
    assert isinstance(change, Decomposed)
    assert not change.by_input
    assert change.magnitude.shape == (6,)


@pytest.mark.parametrize(("shape", "by_input"), [((6,), False), ((6, 1), False), ((1, 8), True), ((1, 8, 1, 1), True)])
def test_magnitudes_of_lycoris(tmp_path, shape, by_input):
    change = read(tmp_path, LINEAR | {"a.dora_scale": draw(*shape)}).changes["a"]
    assert change.by_input == by_input


def test_an_archive_of_torch(tmp_path):
    torch.save(LINEAR, tmp_path / "pytorch_lora_weights.bin")
    change = read_adapter(tmp_path).changes["a"]
    assert torch.equal(change.up, UP)
    assert torch.equal(change.down, DOWN)


def test_factors_stay_in_the_file(tmp_path):
    change = read(tmp_path, LINEAR).changes["a"]
    assert change.up.untyped_storage().data_ptr() in MAPPED
    assert change.down.untyped_storage().data_ptr() in MAPPED


def test_what_is_no_change_is_told(tmp_path):
    more = {"b.alpha": torch.tensor(1.0), "a.diff_b": draw(6), "c.w_norm": draw(6)}
    adapter = read(tmp_path, LINEAR | more)
    assert {*adapter.changes} == {"a"}
    assert {*adapter.names["a"]} == {*LINEAR}
    assert {*adapter.rest} == {*more}


BROKEN = {
    "a factor is missing": ({"a.lora_up.weight": UP}, "a lacks its down"),
    "LoHa of three": ({"a.hada_w1_a": UP, "a.hada_w1_b": DOWN, "a.hada_w2_a": UP}, "a lacks its hada_w2_b"),
    "LoKr of one": ({"a.lokr_w1": UP}, "a lacks its lokr_w2_a"),
    "other ranks": ({"a.lora_up.weight": UP, "a.lora_down.weight": DOWN.T}, r"factors of a are \[6, 2\], \[8, 2\]"),
    "another core": (LINEAR | {"a.lora_mid.weight": draw(3, 2, 1, 1)}, "cannot be multiplied"),
    "a flat core": (LINEAR | {"a.lora_mid.weight": draw(2, 2)}, r"core of a is \[2, 2\] \(float32\), expected the weight of a conv"),
    "halves of two sizes": ({"a.hada_w1_a": UP, "a.hada_w1_b": DOWN, "a.hada_w2_a": UP, "a.hada_w2_b": DOWN[:, :4]}, "halves of a"),
    "halves of two kernels": (
        {"a.hada_w1_a": UP.T, "a.hada_w1_b": DOWN, "a.hada_w2_a": UP.T, "a.hada_w2_b": DOWN}
        | {"a.hada_t1": draw(2, 2, 3, 3), "a.hada_t2": draw(2, 2, 1, 9)},
        "halves of a",
    ),
    "a vector": ({"a.lora_up.weight": UP, "a.lora_down.weight": DOWN[0]}, r"down of a is \[8\]"),
    "nothing in it": ({"a.lora_up.weight": UP[:, :0], "a.lora_down.weight": DOWN[:0]}, r"up of a is \[6, 0\]"),
    "whole numbers": ({"a.lora_up.weight": UP, "a.lora_down.weight": DOWN.to(torch.int32)}, r"\(int32\), expected the weight"),
    "two alphas": (LINEAR | {"a.alpha": draw(2)}, r"alpha of a is \[2\] \(float32\), expected one finite number"),
    "alpha is no number": (LINEAR | {"a.alpha": torch.tensor(torch.nan)}, "expected one finite number"),
    "an empty core": (LINEAR | {"a.lora_mid.weight": draw(2, 2, 0, 1)}, r"core of a is \[2, 2, 0, 1\]"),
    "a core of whole numbers": (LINEAR | {"a.lora_mid.weight": torch.ones(2, 2, 1, 1, dtype=torch.int8)}, "core of a"),
    "lengths in whole numbers": (LINEAR | {"a.dora_scale": torch.ones(6, 1, dtype=torch.int8)}, r"\(int8\), expected lengths"),
    "two kinds": (LINEAR | {"a.diff": draw(6, 8)}, "changed by LoRA and full difference at once"),
    "a part twice": (LINEAR | {"a.lora.up.weight": UP}, "is a second up of its layer"),
    "lengths of neither": (LINEAR | {"a.dora_scale": draw(2, 3)}, "dora_scale of a"),
}


@pytest.mark.parametrize(("tensors", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused(tmp_path, tensors, message):
    with pytest.raises(WeightMismatch, match=message):
        read(tmp_path, tensors)


def test_what_is_no_adapter_is_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match="is no LoRA"):
        read(tmp_path, {"decoder.conv_in.weight": draw(2, 3)})
    with pytest.raises(CheckpointError, match="is an OFT adapter, which cannot be attached"):
        read(tmp_path, {"lora_unet_a.oft_blocks": draw(2, 3, 3), "lora_unet_a.alpha": torch.tensor(1.0)})
    with pytest.raises(CheckpointError, match="is a GLoRA adapter, which"):
        read(tmp_path, {"lora_unet_a.a1.weight": draw(2, 3), "lora_unet_a.b2.weight": draw(2, 3)})
    with pytest.raises(CheckpointError, match="is a LoRA, but"):
        read(tmp_path, {"lora_unet_a.alpha": torch.tensor(1.0)})
    with pytest.raises(CheckpointError, match="folder without an adapter"):
        read_adapter(tmp_path)
    with pytest.raises(CheckpointError, match="none"):
        read_adapter(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "no table"),
        ('{"lora_alpha": "big"}', "lora_alpha is big"),
        ('{"lora_alpha": true}', "lora_alpha is True"),
        ('{"lora_alpha": 1, "alpha_pattern": [2]}', "alpha_pattern is"),
        ('{"lora_alpha": 1, "alpha_pattern": {"(a+)+": 2}}', "has the expression"),
    ],
)
def test_settings_that_cannot_be_read(tmp_path, text, message):
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path, LINEAR, {"lora_adapter_metadata": text})
