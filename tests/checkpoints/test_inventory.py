"""What is in files, shards and folders, and which tensors belong to which network."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from eightfold.checkpoints.components import ADAPTER, find_component, split_components
from eightfold.checkpoints.inventory import Entry, read_inventory
from eightfold.checkpoints.load import read_tensors
from eightfold.core.errors import CheckpointError
from layouts import list_layouts, read_layout

STEM = "diffusion_pytorch_model"


def save(path, *names, size=3, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.full((size,), float(number)) for number, name in enumerate(names)}, path, metadata)
    return path


def save_shards(folder, stem=STEM):
    """Two files and their index: a and b in the first, c in the second."""
    save(folder / f"{stem}-00001-of-00002.safetensors", "a", "b", metadata={"format": "pt"})
    save(folder / f"{stem}-00002-of-00002.safetensors", "c")
    places = {name: f"{stem}-0000{1 if name in 'ab' else 2}-of-00002.safetensors" for name in "abc"}
    index = folder / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 36}, "weight_map": places}))
    return index


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        read_inventory(path)
    assert "\n" not in str(caught.value) and caught.value.hint
    return str(caught.value)


def test_a_safetensors_file(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {
        "a": torch.arange(6.0).reshape(2, 3),
        "b": torch.ones(5, dtype=torch.float16),
        "c": torch.tensor([1, 2, 3], dtype=torch.int8),
    }
    save_file(tensors, path, {"k": "v"})
    inventory = read_inventory(path)
    assert (inventory.source, inventory.format, inventory.files, inventory.metadata) == (str(path), "safetensors", (path,), {"k": "v"})
    assert inventory.parameters == 14 and inventory.shapes == {"a": (2, 3), "b": (5,), "c": (3,)}
    start = len(path.read_bytes()) - 37
    assert inventory.tensors["a"] == Entry("F32", (2, 3), path, start, 24)
    found = read_tensors(inventory)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_what_is_at_an_odd_address_is_read_too(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
    for extra in range(4):
        text = (header + " " * extra).encode()
        (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + torch.ones(2).numpy().tobytes())
        assert read_tensors(tmp_path / "a")["a"].tolist() == [1, 1]


def test_types_without_numbers_here_are_listed_and_refused(tmp_path):
    text = json.dumps({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + b"x")
    assert read_inventory(tmp_path / "a").tensors["a"].dtype == "F4"
    with pytest.raises(CheckpointError, match="tensor a is F4"):
        read_tensors(tmp_path / "a")


def test_a_file_that_shrinks_meanwhile(tmp_path):
    path = save(tmp_path / "a.safetensors", "a", "b")
    inventory = read_inventory(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="has shrunk"):
        read_tensors(inventory)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(inventory)


@pytest.mark.parametrize("whole", [False, True])
def test_shards(tmp_path, whole):
    index = save_shards(tmp_path)
    inventory = read_inventory(tmp_path if whole else index)
    assert list(inventory.tensors) == ["a", "b", "c"] and len(inventory.files) == 2 and inventory.metadata == {"format": "pt"}
    assert {name: tensor[0].item() for name, tensor in read_tensors(inventory).items()} == {"a": 0, "b": 1, "c": 0}


def test_shards_of_torch(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model-00001-of-00001.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}))
    assert read_tensors(index)["a"].tolist() == [1, 1]
    assert read_tensors(tmp_path)["a"].tolist() == [1, 1]


def test_shards_that_are_missing_or_cut_are_named(tmp_path):
    index = save_shards(tmp_path)
    second = tmp_path / f"{STEM}-00002-of-00002.safetensors"
    second.write_bytes(second.read_bytes()[:-1])
    assert "truncated" in refused(index) and second.name in refused(index)
    second.unlink()
    with pytest.raises(CheckpointError) as caught:
        read_inventory(index)
    assert second.name in str(caught.value) and second.name in caught.value.hint
    save(second, "d")
    assert "lacks tensor c" in refused(index)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../b.safetensors"}}',
        '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"a": ".."}}',
        '{"weight_map": {"a": ""}}',
        '{"weight_map": {"a": "nul\\u0000"}}',
        '{"weight_map": {"a": "line\\nbreak"}}',
        '{"weight_map": {"a": "b.safetensors", "a": "c.safetensors"}}',
        "[" * 90000,
        '{"weight_map":' + "{" * 200_000,
    ],
    ids=range(15),
)
def test_an_index_that_cannot_be(tmp_path, text):
    (tmp_path / "a.safetensors.index.json").write_text(text)
    assert "a.safetensors.index.json" in refused(tmp_path / "a.safetensors.index.json")


def test_shards_without_their_index(tmp_path):
    save_shards(tmp_path).unlink()
    assert "not the index" in refused(tmp_path)
    (tmp_path / f"{STEM}-00002-of-00002.safetensors").unlink()
    assert "00001-of-00002" in refused(tmp_path)


def test_shards_of_a_variant(tmp_path):
    """As diffusers names them where only half precision is there; beside whole precision they are left."""
    save(tmp_path / "model.fp16-00001-of-00001.safetensors", "a")
    index = tmp_path / "model.safetensors.index.fp16.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.fp16-00001-of-00001.safetensors"}}))
    assert list(read_inventory(index).tensors) == list(read_inventory(tmp_path).tensors) == ["a"]
    save(tmp_path / "model.safetensors", "b")
    assert list(read_inventory(tmp_path).tensors) == ["b"]


def test_what_is_no_weight_file_is_named(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"")
    assert refused(tmp_path / "a.ckpt") == f"{tmp_path / 'a.ckpt'} is empty"
    (tmp_path / "a.gguf").write_text("<html>")
    assert "looks like a web page" in refused(tmp_path / "a.gguf")
    (tmp_path / "a.pt").write_text("version https://git-lfs.github.com/spec/v1")
    assert "Git LFS pointer" in refused(tmp_path / "a.pt")
    assert "No such file" in refused(tmp_path / "none.safetensors")
    assert "cannot read" in refused(tmp_path / "none.safetensors.index.json")
    assert "null" in refused("a\0b")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(tmp_path / "pipe")


@pytest.fixture
def folder(tmp_path):
    """As diffusers lays out a model."""
    whole = {"_class_name": "P", "vae": ["diffusers", "V"], "unet": ["diffusers", "U"], "text_encoder": ["transformers", "C"]}
    whole |= {"text_encoder_2": ["transformers", "C"], "scheduler": ["diffusers", "S"], "safety_checker": [None, None], "requires": True}
    (tmp_path / "model_index.json").write_text(json.dumps(whole))
    save(tmp_path / "vae" / f"{STEM}.safetensors", "decoder.x", metadata={"format": "pt"})
    save(tmp_path / "vae" / f"{STEM}.fp16.safetensors", "decoder.x")
    (tmp_path / "vae" / "config.json").write_text('{"scaling_factor": 0.13025}')
    (tmp_path / "unet").mkdir()
    save_shards(tmp_path / "unet")
    save(tmp_path / "text_encoder" / "model.safetensors", "text_model.x")
    torch.save({"text_model.y": torch.ones(2)}, save(tmp_path / "text_encoder_2" / "pytorch_model.bin", "x"))
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{}")
    return tmp_path


def test_a_diffusers_folder(folder):
    inventory = read_inventory(folder)
    assert inventory.format == "folder" and len(inventory.files) == 5 and inventory.notes == ()
    assert list(inventory.tensors) == [
        "vae/decoder.x",
        "unet/a",
        "unet/b",
        "unet/c",
        "text_encoder/text_model.x",
        "text_encoder_2/text_model.y",
    ]
    parts = split_components(inventory)
    assert {name: list(part.tensors) for name, part in parts.items()} == {
        "autoencoder": ["decoder.x"],
        "denoiser": ["a", "b", "c"],
        "text": ["text_model.x"],
        "text.2": ["text_model.y"],
    }
    assert json.loads(parts["autoencoder"].metadata["config.json"]) == {"scaling_factor": 0.13025}
    assert parts["autoencoder"].files == (folder / "vae" / f"{STEM}.safetensors",)
    assert read_tensors(parts["text.2"])["text_model.y"].tolist() == [1, 1]


def test_a_component_folder(folder):
    inventory = read_inventory(folder / "vae")
    assert list(inventory.tensors) == ["decoder.x"]
    assert set(inventory.metadata) == {"format", "config.json"}
    assert list(split_components(inventory)) == [""]


def test_folders_without_a_whole_model(folder):
    (folder / "model_index.json").unlink()
    assert set(split_components(read_inventory(folder))) == {"autoencoder", "denoiser", "text", "text.2"}


def test_an_adapter_in_the_place_of_a_component(folder):
    (folder / "text_encoder" / "model.safetensors").unlink()
    save(folder / "text_encoder" / "pytorch_lora_weights.safetensors", "unet.to_q.lora.up.weight")
    with pytest.raises(CheckpointError, match="is a LoRA"):
        split_components(read_inventory(folder))


def test_what_is_missing_in_a_folder(folder, tmp_path):
    (folder / "text_encoder" / "model.safetensors").unlink()
    (folder / "text_encoder").rmdir()
    assert read_inventory(folder).notes == ("text_encoder is named in model_index.json, but not there",)
    for name in (f"{STEM}.safetensors", f"{STEM}.fp16.safetensors"):
        (folder / "vae" / name).unlink()
    assert str(folder / "vae") in refused(folder) and "no weights" in refused(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no weights" in refused(empty)
    (empty / "model_index.json").write_text('{"vae": ["a", "b"]}')
    assert "no weights" in refused(empty)
    (empty / "model_index.json").write_text('{"../vae": ["a", "b"], "..": ["a", "b"]}')
    assert "no weights" in refused(empty)


def test_the_only_weight_file_of_a_folder(tmp_path):
    torch.save({"vae.a": torch.ones(2)}, tmp_path / "any.ckpt")
    assert list(read_inventory(tmp_path).tensors) == ["vae.a"]
    save(tmp_path / "one.safetensors", "b")
    assert list(read_inventory(tmp_path).tensors) == ["b"]
    save(tmp_path / "two.safetensors", "c")
    assert "one.safetensors, two.safetensors" in refused(tmp_path)


SD1 = {
    "autoencoder": ["first_stage_model.a"],
    "training": ["first_stage_model.loss.d"],
    "denoiser": ["model.diffusion_model.a"],
    "text": ["cond_stage_model.transformer.a"],
    "average": ["model_ema.a"],
    "": ["betas"],
}
SDXL = {"text.0": ["conditioner.embedders.0.a"], "text.1": ["conditioner.embedders.1.a"], "denoiser": ["model.diffusion_model.a"]}
COMFY = {"text.clip_l": ["text_encoders.clip_l.transformer.a"], "text.t5xxl": ["text_encoders.t5xxl.a"], "autoencoder": ["vae.a"]}


@pytest.mark.parametrize(
    "parts",
    [
        {"": ["encoder.a", "decoder.a"]},
        {"autoencoder": ["autoencoder.a"], "denoiser": ["denoiser.a"], "text": ["text.a"]},
        SD1,
        SDXL,
        COMFY,
        {"": ["encoder.a"], "training": ["loss.discriminator.a"]},
        {"autoencoder": ["vae.encoder.a"]},
        {"": ["text_model.a", "vae_like.a", "model.layers.0.a"]},
        {"": ["block/a", "b"]},
        {"autoencoder": ["vae/a"], "denoiser": ["unet/a"]},
    ],
)
def test_components_by_prefix(tmp_path, parts):
    names = [name for part in parts.values() for name in part]
    found = split_components(read_inventory(save(tmp_path / "a.safetensors", *names, metadata={"k": "v"})))
    assert set(found) == set(parts)
    for component, part in found.items():
        assert part.metadata == {"k": "v"}
        whole = sorted(parts[component])
        assert all(old == new or old.endswith((f".{new}", f"/{new}")) for old, new in zip(whole, sorted(part.tensors), strict=True))
        assert (sorted(part.tensors) == whole) == (component in ("", "training"))
    assert "transformer.a" in [name for part in found.values() for name in part.tensors] or parts not in (SD1, COMFY)


def test_two_networks_for_one_component_are_a_question(tmp_path):
    path = save(tmp_path / "a.safetensors", "vae.a", "first_stage_model.a")
    with pytest.raises(CheckpointError, match="two networks for autoencoder"):
        split_components(read_inventory(path))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "LoRA"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha", "LoRA"),
        ("unet.down_blocks.0.attn1.to_q.lora.down.weight", "LoRA"),
        ("down_blocks.0.attn1.processor.to_q_lora.down.weight", "LoRA"),
        ("double_blocks.0.processor.proj_lora1.down.weight", "LoRA"),
        ("transformer.single_blocks.0.attn.to_q.lora_A.weight", "LoRA"),
        ("base_model.model.x.lora_B.default.weight", "LoRA"),
        ("lora_unet_x.hada_w1_a", "LoRA"),
        ("x.hada_w1_a", "LoHa"),
        ("x.lokr_w1", "LoKr"),
        ("x.oft_blocks", "OFT"),
    ],
)
def test_adapters_are_no_models(tmp_path, name, kind):
    inventory = read_inventory(save(tmp_path / "a.safetensors", "other", name))
    with pytest.raises(CheckpointError, match=f"is an? {kind}") as caught:
        split_components(inventory)
    assert caught.value.hint


def test_no_public_model_is_taken_for_an_adapter():
    found = [name for layout in list_layouts() for name in read_layout(layout) if ADAPTER.search(name)]
    assert len(list_layouts()) > 50 and not found


def test_public_models_split_into_one_network():
    """Names of published files, bare and under the prefixes of single files, among them every one that looks like a prefix."""
    for layout in list_layouts():
        components = {find_component(name)[0] for name in read_layout(layout)}
        assert len(components) == 1, layout


def test_torch_is_not_loaded(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    code = f"""
import sys
from eightfold.checkpoints.components import ADAPTER, find_component, split_components
from eightfold.checkpoints.inventory import read_inventory
split_components(read_inventory({str(tmp_path / "a.pt")!r}))
print(*[name for name in ("torch", "numpy", "safetensors", "pydantic") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={"PYTHONPATH": ":".join(sys.path)})
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
