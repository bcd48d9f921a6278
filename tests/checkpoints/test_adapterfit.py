"""An adapter's names to the layers of a model: every layout, every layer, and what an adapter of another model is told."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers, _maybe_map_sgm_blocks_to_diffusers
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from adapterfile import LAYOUTS, name_layer, name_tensors
from eightfold.checkpoints.adapterfit import fit_adapter, group_names, spell_denoiser, spell_text, to_plain
from eightfold.checkpoints.adapters import Adapter, read_adapter
from eightfold.checkpoints.lookup import translate
from eightfold.core.errors import CheckpointError
from eightfold.denoisers.unet import UNet
from eightfold.families.keymaps.unet import SD_UNET, SDXL_UNET
from eightfold.families.sd1 import SD1
from eightfold.families.sd2 import SD2
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.nn.lora import attach, list_layers
from eightfold.nn.lowrank import LowRank
from eightfold.specs.network import UNetConfig, VectorConfig
from weights import draw, randomise

TOY = UNetConfig(channels=4, out_channels=4, context=12, width=8, multipliers=(1, 2, 2, 2), heads=2, groups=4)
TOYS = {
    "sd1": (TOY, SD_UNET),
    "sd2": (replace(TOY, linear_projection=True), SD_UNET),
    "sdxl": (
        replace(
            TOY, multipliers=(1, 2, 2), attention=(0, 1, 2), middle=2, linear_projection=True, vector=VectorConfig(pooled=6, numbers=("a",))
        ),
        SDXL_UNET,
    ),
}
REFINER = SDXL_FAMILY.to_edition("refiner")
PUBLIC = {
    "sd1": (SD1.denoiser, SD_UNET),
    "sd2": (SD2.denoiser, SD_UNET),
    "sdxl": (SDXL_FAMILY.denoiser, SDXL_UNET),
    "sdxl refiner": (REFINER.denoiser, REFINER.keymap),
}
CLIP = CLIPTextConfig(
    vocab_size=20,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=8,
    projection_dim=16,
)
TEXT_LAYOUTS = {  # how names begin, for the first text encoder and the second, what the attention is called, and the factors
    "kohya": ("lora_te_", "lora_te2_", "_", "{}_proj", ".lora_down.weight", ".lora_up.weight"),
    "kohya, two": ("lora_te1_", "lora_te2_", "_", "{}_proj", ".lora_down.weight", ".lora_up.weight"),
    "diffusers": ("text_encoder.", "text_encoder_2.", ".", "{}_proj", ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    "processors": ("text_encoder.", "text_encoder_2.", ".", "to_{}", "_lora.down.weight", "_lora.up.weight"),
    "peft": ("text_encoder.", "text_encoder_2.", ".", "{}_proj", ".lora_A.weight", ".lora_B.weight"),
    "comfy": ("text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer.", ".", "{}_proj", ".lora_A.weight", ".lora_B.weight"),
}


def build_changes(network, seed=0):
    """All different, out of one drawing."""
    numbers = draw(4096, seed=seed)
    return {
        name: LowRank(
            up=numbers[n : n + 2 * len(layer.weight)].view(-1, 2),
            down=numbers[-n - 2 * layer.weight[0].numel() :][: 2 * layer.weight[0].numel()].view(2, -1),
            scale=0.3,
        )
        for n, (name, layer) in enumerate(list_layers(network), start=1)
    }


def write(path, tensors):
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    return read_adapter(path)


def same(found, expected):
    """The same changes to the same layers; the scale may have gone into a factor."""
    assert {*found} == {*expected}
    assert all(torch.allclose(found[name].to_matrix(), expected[name].to_matrix(), atol=1e-5) for name in expected)


@cache
def build_toy(name):
    return randomise(UNet(TOYS[name][0]), seed=0)


@cache
def build_on_meta(name):
    with torch.device("meta"):
        return UNet(PUBLIC[name][0])


def name_adapter(network, name):
    """An adapter of rank 1 to all of a network's layers, without numbers; `name` gives them their names."""
    changes = {}
    for own, layer in list_layers(network):
        if (named := name(own)) is not None:
            changes[named] = LowRank(up=torch.zeros(len(layer.weight), 1), down=torch.zeros(1, layer.weight[0].numel()))
    return Adapter(source="toy", changes=changes, names={one: (f"{one}.down", f"{one}.up") for one in changes}, rest=())


@pytest.mark.parametrize(("toy", "layout"), [*(("sd1", layout) for layout in LAYOUTS), ("sd2", "kohya"), ("sdxl", "kohya, original")])
def test_every_layer_of_a_denoiser(tmp_path, toy, layout):
    network, keymap = build_toy(toy), TOYS[toy][1]
    named = {own: name_layer(own, layout, keymap) for own, _ in list_layers(network)}
    changes = {own: change for own, change in build_changes(network).items() if named[own]}
    tensors = {key: one for own, change in changes.items() for key, one in name_tensors(change, named[own], layout).items()}
    fit = fit_adapter(write(tmp_path / "lora.safetensors", tensors), network, keymap=keymap)
    assert len(changes) == (len(named) if layout != "processors" else sum(".to_" in own for own in named))
    assert fit.unmatched == ()
    assert fit.texts == ()
    same(fit.denoiser, changes)


@torch.no_grad()
def test_a_picture_changes_as_its_weights_would(tmp_path):
    """From a file of a trainer to what the network makes, at once for a denoiser and a text encoder."""
    network, text = copy.deepcopy(build_toy("sdxl")), randomise(CLIPTextModel(CLIP), seed=1)
    tensors = {}
    for part, layout in ((network, "kohya, original"), (text, "text")):
        for own, change in build_changes(part, 100).items():
            name = f"lora_te1_text_model_{to_plain(own)}" if layout == "text" else name_layer(own, layout, SDXL_UNET)
            tensors |= name_tensors(change, name, "kohya")
    inputs = (draw(1, 4, 8, 8), torch.tensor([437.0]), draw(1, 5, 12, seed=1), draw(1, TOYS["sdxl"][0].vector.width, seed=2))
    words = torch.tensor([[3, 5, 7]])
    before = network(*inputs), text(words).last_hidden_state
    fit = fit_adapter(write(tmp_path / "lora.safetensors", tensors), network, [text], SDXL_UNET)
    merged = [copy.deepcopy(part) for part in (network, text)]
    for part, changes, weight in zip(merged, (fit.denoiser, fit.texts[0]), (0.1, 0.2), strict=True):
        for name, change in changes.items():
            own = part.get_submodule(name).weight
            own.data += weight * change.scale * (change.up @ change.down).reshape(own.shape)
    expected = merged[0](*inputs), merged[1](words).last_hidden_state
    attachments = [attach(network, fit.denoiser, 0.1), attach(text, fit.texts[0], 0.2)]
    got = network(*inputs), text(words).last_hidden_state
    for one, want, was in zip(got, expected, before, strict=True):
        assert (want - was).abs().max() > 0.1 * was.std()
        assert (one - want).abs().max() < 1e-4 * want.std()
    for attachment in attachments:
        attachment.remove()
    assert torch.equal(network(*inputs), before[0])
    assert torch.equal(text(words).last_hidden_state, before[1])


@pytest.mark.parametrize("layout", TEXT_LAYOUTS)
@pytest.mark.parametrize(("kind", "encoder"), [(CLIPTextModel, 0), (CLIPTextModelWithProjection, 1)])
def test_every_layer_of_a_text_encoder(tmp_path, kind, layout, encoder):
    """Files say `text_model`, which the modules of transformers have or have not, with the version and the class."""
    *begins, between, attention, down, up = TEXT_LAYOUTS[layout]
    texts = [randomise(kind(CLIP), seed=n) for n in range(2)]
    changes = {name: one for name, one in build_changes(texts[encoder]).items() if "projection" not in name}
    tensors = {}
    for own, change in changes.items():
        name = "text_model." + own.removeprefix("text_model.")
        for part in ("q", "k", "v", "out"):
            name = name.replace(f"self_attn.{part}_proj", "self_attn." + attention.format(part))
        name = begins[encoder] + name.replace(".", between)
        tensors |= {name + down: change.down, name + up: change.scale * change.up}
    fit = fit_adapter(write(tmp_path / "lora.safetensors", tensors), build_toy("sd1"), texts, SD_UNET)
    assert len(changes) == 12
    assert fit.unmatched == ()
    assert fit.denoiser == fit.texts[1 - encoder] == {}
    same(fit.texts[encoder], changes)


@pytest.mark.parametrize("family", PUBLIC)
@pytest.mark.parametrize("layout", ["comfy, original", "processors"])
def test_every_layer_of_the_public_denoisers(family, layout):
    network, keymap = build_on_meta(family), PUBLIC[family][1]
    adapter = name_adapter(network, lambda own: name_layer(own, layout, keymap))
    fit = fit_adapter(adapter, network, keymap=keymap)
    assert fit.unmatched == ()
    assert len(fit.denoiser) == len(adapter.changes) > 100


@pytest.mark.parametrize("family", PUBLIC)
def test_no_two_layers_share_a_spelling(family):
    layers, keymap = dict(list_layers(build_on_meta(family))), PUBLIC[family][1]
    originals = {translate(f"{name}.weight", keymap)[0].name for name in layers}
    short = sum(name.endswith(".to_out.0") for name in layers)
    assert len(originals) == len({*map(to_plain, layers)}) == len(layers)
    shared = sum(to_plain(name) in {to_plain(one.removesuffix(".weight")) for one in originals} for name in layers)
    assert len(spell_denoiser(layers, keymap)) == 2 * len(layers) + short - shared


def test_names_as_diffusers_reads_them():
    """Kohya's names of XL, in the original layout, through diffusers' own converter."""
    network = build_on_meta("sdxl")
    named = {name_layer(own, "kohya, original", SDXL_UNET): own for own, _ in list_layers(network)}
    state = {}
    for number, name in enumerate(named):
        state |= {f"{name}.lora_down.weight": torch.full((1, 1), float(number)), f"{name}.lora_up.weight": torch.zeros(1, 1)}

    class Config:
        layers_per_block = 2

    theirs, _ = _convert_non_diffusers_lora_to_diffusers(_maybe_map_sgm_blocks_to_diffusers(state, Config))
    downs = {
        name.removeprefix("unet.").removesuffix(".lora_A.weight"): [*named.values()][int(one)]
        for name, one in convert_unet_state_dict_to_peft(theirs).items()
        if name.endswith("lora_A.weight")
    }
    assert len(downs) == len(named)
    assert {their: own for their, own in downs.items() if their != own} == {}


def test_one_layer_in_two_spellings_is_changed_once():
    network = build_toy("sdxl")
    adapters = [
        name_adapter(network, lambda own, layout=layout: name_layer(own, layout, SDXL_UNET)) for layout in ("kohya", "kohya, original")
    ]
    changes = adapters[0].changes | adapters[1].changes
    names = {one: (f"{one}.up",) for one in changes}
    fit = fit_adapter(Adapter(source="two", changes=changes, names=names, rest=()), network, keymap=SDXL_UNET)
    assert len(fit.denoiser) == len(adapters[0].changes)
    assert {*fit.unmatched} == {f"{one}.up" for one in adapters[1].changes if one not in adapters[0].changes}


def test_what_the_model_has_not_is_listed():
    """A second text encoder, a layer too many, and tensors that are no change."""
    network, text = build_toy("sd1"), CLIPTextModel(CLIP)
    adapter = name_adapter(network, lambda own: name_layer(own, "kohya"))
    linear = LowRank(up=torch.zeros(16, 1), down=torch.zeros(1, 16))
    more = {
        "lora_te2_text_model_encoder_layers_0_mlp_fc1": linear,
        "lora_te_text_model_encoder_layers_2_self_attn_q_proj": linear,
        "lora_te_text_model_encoder_layers_3_self_attn_q_proj": linear,
        "lora_unet_double_blocks_0_img_attn_proj": linear,
    }
    names = {**adapter.names, **{one: (f"{one}.up", f"{one}.down") for one in more}}
    whole = Adapter(source="toy", changes={**adapter.changes, **more}, names=names, rest=("lora_unet_conv_in.diff_b",))
    fit = fit_adapter(whole, network, [text], SD_UNET)
    assert {*fit.unmatched} == {"lora_unet_conv_in.diff_b", *(name for one in more for name in names[one])}
    assert fit.texts == ({},)
    groups = group_names(fit.unmatched)
    assert groups["lora_te_text_model_encoder_layers_*_self_attn_q_proj.up"] == 2
    assert groups["lora_unet_conv_in.diff_b"] == 1
    assert sum(groups.values()) == len(fit.unmatched)


def test_names_are_grouped_by_their_numbers():
    assert group_names(["a.0.to_q", "a.12.to_q", "b_1_c", "b_2_c", "lora_te1_x", "conv1"]) == {
        "a.*.to_q": 2,
        "b_*_c": 2,
        "lora_te1_x": 1,
        "conv1": 1,
    }


@pytest.mark.parametrize("family", PUBLIC)
@pytest.mark.parametrize("other", PUBLIC)
@pytest.mark.parametrize("layout", ["kohya", "kohya, original"])
def test_adapters_of_another_family_are_refused(family, other, layout):
    if family == other:
        return
    adapter = name_adapter(build_on_meta(other), lambda own: name_layer(own, layout, PUBLIC[other][1]))
    widths = {name: PUBLIC[name][0].context for name in (family, other)}
    expected = rf"looks like one for {other} \(text {widths[other]} wide\), expected one for {family} \(text {widths[family]} wide\)"
    with pytest.raises(CheckpointError, match=expected):
        fit_adapter(adapter, build_on_meta(family), keymap=PUBLIC[family][1])


def test_an_adapter_of_another_width_is_refused():
    """Where the text says nothing, by the first layer that does not fit."""
    network = UNet(replace(TOY, width=16))
    adapter = name_adapter(network, lambda own: name_layer(own, "kohya") if "resnets" in own else None)
    with pytest.raises(
        CheckpointError, match=r"lora_unet_down_blocks_0_resnets_0_conv1 changes a weight of \[16, 144\], expected \[8, 72\]"
    ):
        fit_adapter(adapter, build_toy("sd1"), keymap=SD_UNET)


def test_an_adapter_without_a_layer_of_the_model_is_refused():
    """Also where its text encoder is one that this model has too."""
    changes = {f"lora_unet_double_blocks_{n}_img_attn_proj": LowRank(up=torch.zeros(4, 1), down=torch.zeros(1, 4)) for n in range(19)}
    with_text = changes | {"lora_te1_text_model_encoder_layers_0_self_attn_q_proj": LowRank(up=torch.zeros(16, 1), down=torch.zeros(1, 16))}
    for some in (changes, with_text):
        adapter = Adapter(source="flux.safetensors", changes=some, names={one: (one,) for one in some}, rest=())
        with pytest.raises(CheckpointError, match=r"changes 19 layers, none of which .* \(lora_unet_double_blocks_\*_img_attn_proj\)"):
            fit_adapter(adapter, build_toy("sd1"), [CLIPTextModel(CLIP)], SD_UNET)


def test_a_file_without_a_beginning_goes_where_it_fits(tmp_path):
    """PEFT's own files of one network do not say which."""
    text = randomise(CLIPTextModel(CLIP), seed=1)
    changes = build_changes(text)
    tensors = {}
    for name, change in changes.items():
        tensors |= name_tensors(change, f"base_model.model.text_model.{name}", "peft, raw")
    fit = fit_adapter(write(tmp_path / "lora.safetensors", tensors), build_toy("sd1"), [text], SD_UNET)
    assert fit.unmatched == ()
    same(fit.texts[0], changes)


def test_spellings_of_text_are_those_of_clip():
    layers = dict(list_layers(CLIPTextModelWithProjection(CLIP)))
    spelled = spell_text(layers)
    assert {*spelled.values()} == {*layers}
    assert len(spelled) == len(layers) + sum("self_attn" in name for name in layers)
    assert isinstance(layers["text_projection"], nn.Linear)
