"""Weights from layout to layout and back, in every type, out of larger files; and what is refused."""

from __future__ import annotations

import re
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file

from eightfold.autoencoders.tiny import TinyAutoencoder
from eightfold.checkpoints import translate
from eightfold.checkpoints.components import ROWS
from eightfold.checkpoints.formats import read_safetensors_header
from eightfold.checkpoints.identity import identify_file
from eightfold.checkpoints.save import write_safetensors
from eightfold.checkpoints.translate import read_translation, write_translation
from eightfold.core.errors import CheckpointError, OutputError, RequestError, UnknownCheckpoint, UnknownName, WeightMismatch
from eightfold.specs.network import TinyConfig
from layouts import list_layouts, narrow
from toylayouts import build_kl, convert, draw_all

NAMES = {name.removesuffix(".original") for name in list_layouts() if name.endswith(".original")} - {"sd_vae"} | {"sd1_vae"}
ORIGINALS = {name: narrow("sd_vae.original" if name == "sd1_vae" else f"{name}.original") for name in sorted(NAMES)}
PAIRS = [name for name, shapes in ORIGINALS.items() if shapes.keys() != narrow(name).keys()]
# what is thrown away on the way to diffusers, and nobody can know on the way back
LOST = {"pixart": ("pos_embed", "y_embedder.y_embedding"), "hunyuan-image-2.1-refiner_denoiser": ("time_r_in.",)}
# for each row of single files a prefix that it knows
PREFIXES = {
    "autoencoder.": "autoencoder",
    "denoiser.": "denoiser",
    "text.": "text",
    "model_ema.": "average",
    "first_stage_model.": "autoencoder",
    "vae.": "autoencoder",
    "model.diffusion_model.": "denoiser",
    "diffusion_model.": "denoiser",
    "control_model.": "control",
    "cond_stage_model.": "text",
    "conditioner.embedders.0.": "text.0",
    "text_encoders.clip_l.": "text.clip_l",
}


def find_lost(name):
    return next((lost for beginning, lost in LOST.items() if name.startswith(beginning)), ())


@pytest.mark.parametrize("name", PAIRS)
def test_both_ways(tmp_path, name):
    shapes, original = narrow(name), ORIGINALS[name]
    lost = {key for key in original if key.startswith(find_lost(name) or "nothing")}
    one, other, back = (tmp_path / f"{part}.safetensors" for part in ("one", "other", "back"))
    save_file(draw_all(original if lost else shapes), one, metadata={"format": "pt"})
    there, again = ("diffusers", "original") if lost else ("original", "diffusers")
    left_out = convert(one, other, layout=there).left_out
    assert {part.partition(":")[0] for part in left_out} == lost
    found = read_safetensors_header(other)
    assert {key: info.shape for key, info in found.tensors.items()} == (shapes if lost else original)
    assert {info.dtype for info in found.tensors.values()} == {"BF16"} and found.metadata == {"format": "pt"}
    before, after = identify_file(one), identify_file(other)
    assert [one.layout for one in (*before, *after)] == [again, there]
    assert (before[0].ties, before[0].space, before[0].family) == (after[0].ties, after[0].space, after[0].family) or lost
    if lost:
        with pytest.raises(WeightMismatch, match="which ours leaves out") as caught:
            convert(other, back, layout=again)
        assert caught.value.hint
        assert not back.exists()
    else:
        convert(other, back, layout=again)
        assert back.read_bytes() == one.read_bytes()


def test_the_pairs_are_all():
    assert (len(PAIRS), len(ORIGINALS)) == (27, 30)


@pytest.fixture
def autoencoder(tmp_path):
    """The toy of a public autoencoder in the original layout, float32."""
    path = tmp_path / "autoencoder.safetensors"
    write_safetensors(path, {name: tensor.float() for name, tensor in build_kl().items()}, {"a": "b"}, overwrite=False)
    return path


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_component_is_taken_out_without_its_prefix(tmp_path, prefix):
    component = PREFIXES[prefix]
    tensors = build_kl(prefix) | {"first_stage_model.x": torch.ones(2), "denoiser.x": torch.ones(2), "loss.logvar": torch.ones(1)}
    tensors = {name: tensor for name, tensor in tensors.items() if PREFIXES.get(f"{name.partition('.')[0]}.") != component} | build_kl(
        prefix
    )
    write_safetensors(tmp_path / "all", tensors, {"a": "b"}, overwrite=False)
    with pytest.raises(CheckpointError, match=f"has . components: .*{component}") as caught:
        read_translation(tmp_path / "all")
    assert "--component" in caught.value.hint and "training" not in str(caught.value)
    translation = convert(tmp_path / "all", tmp_path / "one", component=component)
    assert translation.identity.component == component
    found, wanted = load_file(tmp_path / "one"), build_kl()
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert read_safetensors_header(tmp_path / "one").metadata == {"a": "b"}
    if component == "autoencoder":
        convert(tmp_path / "all", tmp_path / "ours", component=component, layout="diffusers")
        assert {name: tensor.shape for name, tensor in load_file(tmp_path / "ours").items()} == narrow("sd1_vae")
    else:
        with pytest.raises(UnknownCheckpoint, match="no other layout") as caught:
            read_translation(tmp_path / "all", component=component, layout="diffusers")
        assert "--layout" in caught.value.hint


def test_every_prefix_of_a_single_file_is_tried():
    patterns = [row.prefix for row in ROWS if "/" not in row.prefix and row.component != "training"]
    unmatched = [pattern for pattern in patterns if not any(re.fullmatch(pattern, prefix) for prefix in PREFIXES)]
    assert not unmatched


def test_one_network_needs_no_component(tmp_path, autoencoder):
    """Names stay as they are; a layout's own names begin with no prefix, and what the trainer left behind is no second network."""
    write_safetensors(tmp_path / "vae", build_kl("first_stage_model.") | {"loss.logvar": torch.ones(1)}, {}, overwrite=False)
    convert(tmp_path / "vae", tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == (tmp_path / "vae").read_bytes()
    convert(tmp_path / "vae", tmp_path / "ours", layout="diffusers")
    assert load_file(tmp_path / "ours").keys() == narrow("sd1_vae").keys()
    convert(autoencoder, tmp_path / "chosen", component="autoencoder")
    assert (tmp_path / "chosen").read_bytes() == autoencoder.read_bytes()
    with pytest.raises(UnknownName, match="unknown component 'denoiser'"):
        read_translation(autoencoder, component="denoiser")


def test_a_tie_stays_a_tie(tmp_path, autoencoder):
    convert(autoencoder, tmp_path / "ours", layout="diffusers")
    (identity,) = identify_file(tmp_path / "ours")
    assert identity.ties == ("sd", "sdxl") and read_safetensors_header(tmp_path / "ours").metadata == {"a": "b"}


def test_early_names_of_the_attention(tmp_path):
    early = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = build_kl(layout="sd1_vae")
    renamed = {}
    for name, tensor in tensors.items():
        for now, was in early.items():
            name = name.replace(f"attentions.0.{now}.", f"attentions.0.{was}.")
        renamed[name] = tensor
    assert renamed.keys() != tensors.keys()
    write_safetensors(tmp_path / "early", renamed, {}, overwrite=False)
    write_safetensors(tmp_path / "now", tensors, {}, overwrite=False)
    for layout in ("original", "diffusers"):
        convert(tmp_path / "early", tmp_path / f"{layout} of early", layout=layout)
        convert(tmp_path / "now", tmp_path / f"{layout} of now", layout=layout)
        assert (tmp_path / f"{layout} of early").read_bytes() == (tmp_path / f"{layout} of now").read_bytes()


def test_another_spelling_becomes_the_first(tmp_path):
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in TinyAutoencoder(TinyConfig(channels=4)).state_dict().items()}
    write_safetensors(tmp_path / "ours", draw_all(shapes), {}, overwrite=False)
    convert(tmp_path / "ours", tmp_path / "original", layout="original")
    tensors = load_file(tmp_path / "original")
    assert tensors.keys() != shapes.keys() and all(name.startswith(("encoder.", "decoder.")) for name in tensors)
    write_safetensors(tmp_path / "comfy", {f"taesd_{name}": tensor for name, tensor in tensors.items()}, {}, overwrite=False)
    for layout, same in (("original", "original"), ("diffusers", "ours")):
        convert(tmp_path / "comfy", tmp_path / "out", layout=layout, overwrite=True)
        assert (tmp_path / "out").read_bytes() == (tmp_path / same).read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_casting(tmp_path, dtype):
    wide = torch.tensor([1.0, -2.5, 1e-3, 65504.0, 65519.0])
    tensors = {
        "conv.weight": wide,
        "half": wide[:3].half(),
        "double": wide.double(),
        "small": wide[:2].to(torch.float8_e5m2),
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "bn.num_batches_tracked": torch.tensor(5),
        "mask": torch.tensor([True, False]),
        "infinite": torch.tensor([torch.inf, -torch.inf, torch.nan]),
        "empty": torch.zeros(0, 3),
    }
    write_safetensors(tmp_path / "in", tensors, {}, overwrite=False)
    translation = convert(tmp_path / "in", tmp_path / "out", dtype=dtype)
    wanted, found = getattr(torch, dtype), load_file(tmp_path / "out")
    assert found.keys() == tensors.keys() and translation.identity.component == "unknown"
    for name, tensor in tensors.items():
        assert found[name].dtype == (wanted if tensor.is_floating_point() else tensor.dtype), name
        assert torch.equal(found[name].nan_to_num(), tensor.to(found[name].dtype).nan_to_num()), name
    convert(tmp_path / "in", tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == (tmp_path / "in").read_bytes()


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("float16", -70000.0, "tensor b.weight reaches 70000, and float16 ends at 65504"),
        ("float16", 65520.0, "tensor b.weight reaches 65520, and float16 ends at 65504"),
        ("bfloat16", 3.4e38, r"tensor b.weight reaches 3.4e\+38, and bfloat16 ends at 3.389531e\+38"),
    ],
)
def test_a_value_that_the_type_cannot_hold(tmp_path, dtype, value, message):
    tensors = {"a.weight": torch.ones(3), "b.weight": torch.tensor([1.0, value, torch.inf, 2.0]), "c": torch.tensor([torch.inf])}
    write_safetensors(tmp_path / "in", tensors, {}, overwrite=False)
    with pytest.raises(RequestError, match=message) as caught:
        convert(tmp_path / "in", tmp_path / "out", dtype=dtype)
    assert "float32" in caught.value.hint and ("bfloat16" in caught.value.hint) == (dtype == "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_parts_of_several_types_are_not_joined(tmp_path):
    """The way back could not tell them apart; float8 cannot be widened with others at all."""
    tensors = draw_all(narrow("flux1-schnell_denoiser"))
    key = "transformer_blocks.0.attn.to_k.weight"
    for odd in (torch.float32, torch.float8_e4m3fn):
        write_safetensors(tmp_path / "in", tensors | {key: tensors[key].to(odd)}, {}, overwrite=True)
        with pytest.raises(
            WeightMismatch, match=r"double_blocks.0.img_attn.qkv.weight cannot be joined: its parts are bfloat16 and float"
        ) as caught:
            read_translation(tmp_path / "in", layout="original")
        assert "--dtype" in caught.value.hint
        convert(tmp_path / "in", tmp_path / "out", layout="original", dtype="float32", overwrite=True)
        found = load_file(tmp_path / "out")["double_blocks.0.img_attn.qkv.weight"]
        assert torch.equal(found[8:16], tensors[key].to(odd).float())


def test_what_has_one_layout_has_no_other(tmp_path):
    write_safetensors(tmp_path / "a", draw_all(narrow("chroma-radiance_denoiser")), {}, overwrite=False)
    for layout in ("diffusers", "original"):
        with pytest.raises(RequestError, match="denoiser of radiance, which has one layout only"):
            read_translation(tmp_path / "a", layout=layout)


def test_what_is_no_model(tmp_path):
    files = {
        "a LoRA": ({"lora_unet_mid_block.lora_down.weight": torch.ones(4, 8)}, {}),
        "a latent, not weights": ({"latent": torch.ones(1, 4, 2, 2)}, {"eightfold.latent": "1"}),
        "nobody knows whose weights": ({"a.weight": torch.ones(2)}, {}),
    }
    for message, (tensors, metadata) in files.items():
        write_safetensors(tmp_path / "a", tensors, metadata, overwrite=True)
        with pytest.raises(CheckpointError, match=message) as caught:
            read_translation(tmp_path / "a", layout="diffusers")
        assert caught.value.hint
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        read_translation(tmp_path / "a")


def test_nothing_is_overwritten(tmp_path, autoencoder):
    before = autoencoder.read_bytes()
    (tmp_path / "link").symlink_to(autoencoder)
    for out, overwrite, message in (
        (autoencoder, False, "is what is to be converted"),
        (autoencoder, True, "is what is to be converted"),
        (tmp_path / "link", True, "is what is to be converted"),
    ):
        with pytest.raises(OutputError, match=message):
            convert(autoencoder, out, overwrite=overwrite)
    (tmp_path / "there").write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        convert(autoencoder, tmp_path / "there")
    assert autoencoder.read_bytes() == before and (tmp_path / "there").read_bytes() == b"old"


def test_one_tensor_at_a_time(tmp_path, autoencoder, monkeypatch):
    """None before the writing begins, and none is kept beside the next."""
    alive, most, true_read = [], 0, translate.to_tensor

    def read(*arguments):
        nonlocal most
        tensor = true_read(*arguments)
        alive.append(weakref.ref(tensor))
        most = max(most, sum(one() is not None for one in alive))
        return tensor

    monkeypatch.setattr(translate, "to_tensor", read)
    translation = read_translation(autoencoder, layout="diffusers", dtype="bfloat16")
    assert not alive
    assert sum(1 for _ in write_translation(translation, tmp_path / "out")) == len(alive) + 1
    assert most == 1


def test_what_is_left_half_way_leaves_nothing(tmp_path, autoencoder):
    writing = write_translation(read_translation(autoencoder), tmp_path / "out")
    next(writing), next(writing)
    writing.close()
    assert [path.name for path in tmp_path.iterdir()] == [autoencoder.name]


def test_what_its_company_settled_is_written_down(tmp_path):
    """The autoencoder of an all-in-one SDXL file is sdxl's; alone it would be a tie."""
    shapes = {f"model.diffusion_model.{key}": shape for key, shape in narrow("sdxl_denoiser.original").items()}
    shapes |= {f"first_stage_model.{key}": shape for key, shape in narrow("sd_vae.original").items()}
    save_file(draw_all(shapes), tmp_path / "whole.safetensors")
    convert(tmp_path / "whole.safetensors", tmp_path / "vae.safetensors", component="autoencoder")
    assert read_safetensors_header(tmp_path / "vae.safetensors").metadata == {"eightfold.space": "sdxl"}
    (identity,) = identify_file(tmp_path / "vae.safetensors")
    assert (identity.space, identity.ties) == ("sdxl", ())
    convert(tmp_path / "whole.safetensors", tmp_path / "unet.safetensors", component="denoiser")
    assert read_safetensors_header(tmp_path / "unet.safetensors").metadata == {}
