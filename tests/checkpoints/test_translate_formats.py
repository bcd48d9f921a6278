"""Weights out of every format that can be read: archives of torch.save, GGUF, folders and shards."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from eightfold.checkpoints.formats import read_safetensors_header
from eightfold.checkpoints.identity import identify_file
from eightfold.checkpoints.save import write_safetensors
from eightfold.checkpoints.translate import read_translation
from eightfold.core.errors import CheckpointError, OutputError
from gguffile import F16, F32, Q4_K, Q8_0, Row, to_gguf
from layouts import narrow
from toylayouts import build_kl, convert, draw


@pytest.fixture
def autoencoder(tmp_path):
    """The toy of a public autoencoder in the original layout, float32."""
    path = tmp_path / "autoencoder.safetensors"
    write_safetensors(path, {name: tensor.float() for name, tensor in build_kl().items()}, {"a": "b"}, overwrite=False)
    return path


def test_archives_of_torch_save(tmp_path, autoencoder):
    tensors = load_file(autoencoder)
    turned = {name: tensor.mT.contiguous().mT if tensor.ndim == 4 else tensor for name, tensor in tensors.items()}  # with strides
    torch.save({"state_dict": turned, "global_step": 7, "epoch": 1}, tmp_path / "a.ckpt")
    convert(tmp_path / "a.ckpt", tmp_path / "out")
    assert all(torch.equal(found, tensors[name]) for name, found in load_file(tmp_path / "out").items())
    assert read_safetensors_header(tmp_path / "out").metadata == {"global_step": "7", "epoch": "1"}
    for layout in ("diffusers", "original"):
        convert(tmp_path / "a.ckpt", tmp_path / "one", layout=layout, overwrite=True)
        convert(autoencoder, tmp_path / "other", layout=layout, overwrite=True)
        found, wanted = load_file(tmp_path / "one"), load_file(tmp_path / "other")
        assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_gguf(tmp_path):
    """Plain tensors keep their type; quantised ones become float32, or what is asked for."""
    step, codes = torch.tensor([0.5]).half(), torch.arange(-16, 16, dtype=torch.int8)
    block = b"".join(part.view(torch.uint8).numpy().tobytes() for part in (step, codes))
    plain = torch.arange(6.0)
    rows = [
        Row("a", F32, (2, 3), plain.numpy().tobytes()),
        Row("b", F16, (6,), plain.half().numpy().tobytes()),
        Row("q", Q8_0, (2, 32), 2 * block),
    ]
    (tmp_path / "a.gguf").write_bytes(to_gguf(rows, {"general.architecture": "flux"}))
    convert(tmp_path / "a.gguf", tmp_path / "out")
    found = load_file(tmp_path / "out")
    assert {name: tensor.dtype for name, tensor in found.items()} == {"a": torch.float32, "b": torch.float16, "q": torch.float32}
    assert torch.equal(found["a"], plain.reshape(2, 3)) and torch.equal(found["q"], codes.float().mul(0.5).repeat(2, 1))
    assert read_safetensors_header(tmp_path / "out").metadata == {"general.architecture": "flux"}
    convert(tmp_path / "a.gguf", tmp_path / "half", dtype="float16")
    assert {tensor.dtype for tensor in load_file(tmp_path / "half").values()} == {torch.float16}
    (tmp_path / "b.gguf").write_bytes(to_gguf([Row("k", Q4_K, (256,), bytes(144))]))
    with pytest.raises(CheckpointError, match="tensor k is Q4_K, which cannot be read"):
        read_translation(tmp_path / "b.gguf")


def test_a_fused_tensor_of_a_gguf_file_is_cut(tmp_path):
    """The pieces of a quantised tensor are those of its numbers."""
    shapes = narrow("flux1-schnell_denoiser.original")
    name = "double_blocks.0.img_attn.qkv.weight"
    rows, wanted = [], {}
    for number, (key, shape) in enumerate(shapes.items()):
        wanted[key] = draw(shape, number).float()
        rows.append(Row(key, F32, shape, wanted[key].numpy().tobytes()))
    rows = [row._replace(number=Q8_0, shape=(24, 32), data=bytes(34 * 24)) if row.name == name else row for row in rows]
    (tmp_path / "a.gguf").write_bytes(to_gguf(rows))
    convert(tmp_path / "a.gguf", tmp_path / "out", layout="diffusers")
    found = load_file(tmp_path / "out")
    assert torch.equal(found["transformer_blocks.0.attn.to_k.weight"], torch.zeros(8, 32))
    convert(tmp_path / "out", tmp_path / "back", layout="original")
    back = load_file(tmp_path / "back")
    assert back.keys() == wanted.keys() and torch.equal(back.pop(name), torch.zeros(24, 32))
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in back.items())


def write_folder(path):
    """A diffusers folder: an autoencoder in two shards, a denoiser and a text encoder."""
    tensors = build_kl(layout="sdxl_vae")
    names = sorted(tensors)
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    for folder in ("vae", "unet", "text_encoder"):
        (path / folder).mkdir(parents=True)
        (path / folder / "config.json").write_text(
            json.dumps({"_name_or_path": "/home/someone"} | ({"scaling_factor": 0.13025} if folder == "vae" else {}))
        )
    for file in set(places.values()):
        part = {name: tensors[name] for name in names if places[name] == file}
        save_file(part, path / "vae" / file, metadata={"format": "pt"})
    (path / "vae" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    save_file({"conv_in.weight": torch.ones(2)}, path / "unet" / "diffusion_pytorch_model.safetensors")
    save_file({"text_model.embeddings.position_ids": torch.arange(3)}, path / "text_encoder" / "model.safetensors")
    return tensors


def test_folders_and_shards(tmp_path):
    tensors = write_folder(tmp_path / "model")
    with pytest.raises(CheckpointError, match="has 3 components: autoencoder, denoiser, text"):
        read_translation(tmp_path / "model")
    for source, component in ((tmp_path / "model", "autoencoder"), (tmp_path / "model" / "vae", None)):
        convert(source, tmp_path / "out", component=component, overwrite=True)
        found = load_file(tmp_path / "out")
        assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
        metadata = read_safetensors_header(tmp_path / "out").metadata
        assert metadata == {"format": "pt", "config.json": '{"scaling_factor": 0.13025}'}
        assert identify_file(tmp_path / "out")[0].space == "sdxl"  # which its folder said, and its tensors do not
    convert(tmp_path / "model" / "vae" / "model.safetensors.index.json", tmp_path / "bare")
    assert read_safetensors_header(tmp_path / "bare").metadata == {"format": "pt"}
    convert(tmp_path / "model", tmp_path / "text", component="text", dtype="float16")
    assert read_safetensors_header(tmp_path / "text").metadata == {}
    assert torch.equal(load_file(tmp_path / "text")["text_model.embeddings.position_ids"], torch.arange(3))
    convert(tmp_path / "out", tmp_path / "original", layout="original")
    convert(tmp_path / "original", tmp_path / "back", layout="diffusers")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "out").read_bytes()
    shard = tmp_path / "model" / "vae" / "model-00001-of-00002.safetensors"
    with pytest.raises(OutputError, match="is what is to be converted"):
        convert(tmp_path / "model", shard, component="autoencoder", overwrite=True)
