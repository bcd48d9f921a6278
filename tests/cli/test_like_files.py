"""generate --like for pictures that were made with files beside the model, as a user types it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from eightfold.checkpoints.filehash import hash_file, hash_weights
from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.pixels import read_metadata
from eightfold.nn.lora import list_layers
from eightfold.pipelines.bundle import load
from pocketfile import POCKET_FILE

HOW = ("--size", "24x32", "--steps", "2", "--sampler", "euler", "--seed", "5")


def write_lora(path: Path, seed: int = 0) -> Path:
    """For some layers of the pocket model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    layers = [(name, layer) for name, layer in list_layers(load("pocket").denoiser) if layer.weight.ndim == 2][:4]
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in layers:
        short = f"lora_unet_{name.replace('.', '_')}"
        tensors[f"{short}.lora_down.weight"] = torch.randn(4, layer.weight.shape[1], generator=generator)
        tensors[f"{short}.lora_up.weight"] = torch.randn(layer.weight.shape[0], 4, generator=generator)
    write_safetensors(path, tensors, {}, overwrite=True)
    return path


@pytest.fixture
def picture(eightfold: Any, tmp_path: Path) -> Path:
    """Made with loras/style.safetensors at 0.3."""
    write_lora(tmp_path / "loras" / "style.safetensors")
    answer = eightfold("generate", "a red cube", *HOW, "--lora", "loras/style.safetensors:0.3", "--out", "x.png")
    assert answer.code == 0 and answer.is_calm, answer.err
    assert eightfold("generate", "a red cube", *HOW, "--out", "plain.png").code == 0
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "x.png").read_bytes()
    return tmp_path / "x.png"


def read_record(path: Path) -> dict[str, Any]:
    return json.loads(read_metadata(path)["eightfold"])


def write_text(path: Path, **texts: str) -> None:
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_itxt(name, text)
    Image.new("RGB", (5, 4)).save(path, pnginfo=chunks)


def test_a_lora_is_applied_again(eightfold: Any, picture: Path, tmp_path: Path) -> None:
    path = tmp_path / "loras" / "style.safetensors"
    (said,) = read_record(picture)["adapters"]
    assert said == {"file": "loras/style.safetensors", "sha256": hash_file(path), "short": hash_weights(path)[:12], "weight": 0.3}
    assert f'Lora hashes: "style: {said["short"]}"' in read_metadata(picture)["parameters"]
    answer = eightfold("generate", "--like", "x.png", "--out", "y.png")
    assert answer.code == 0 and answer.is_calm, answer.err
    assert (tmp_path / "y.png").read_bytes() == picture.read_bytes()


def test_one_that_is_gone_is_missed(eightfold: Any, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "loras" / "style.safetensors").unlink()
    answer = eightfold("generate", "--like", "x.png", "--out", "y.png")
    assert answer.code == 0
    assert "not as it was: lora loras/style.safetensors: not found; --lora gives it" in answer.err
    assert read_record(tmp_path / "y.png") == read_record(tmp_path / "plain.png")


def test_one_that_has_changed_is_refused(refuse: Any, eightfold: Any, picture: Path, tmp_path: Path) -> None:
    write_lora(tmp_path / "loras" / "style.safetensors", seed=1)
    line = refuse("generate", "--like", "x.png", "--out", "y.png")
    assert "loras/style.safetensors is not what it was" in line and "--lora names the file" in line
    answer = eightfold("generate", "--like", "x.png", "--lora", "loras/style.safetensors:0.3", "--out", "y.png")
    assert answer.code == 0 and "not as it was" not in answer.err
    assert (tmp_path / "y.png").read_bytes() != picture.read_bytes()


def test_one_beside_the_model_under_its_name(eightfold: Any, picture: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "checkpoints").mkdir(parents=True)
    shutil.copy(POCKET_FILE, models / "checkpoints" / "p.safetensors")
    for place in (models / "checkpoints", models / "Lora"):
        place.mkdir(exist_ok=True)
        (tmp_path / "loras" / "style.safetensors").rename(place / "style.safetensors")
        answer = eightfold("generate", "--like", "x.png", "--model", "models/checkpoints/p.safetensors", "--out", "y.png", "--overwrite")
        assert answer.code == 0 and "not as it was" not in answer.err
        assert (read_record(tmp_path / "y.png")["adapters"][0]["sha256"]) == read_record(picture)["adapters"][0]["sha256"]
        (place / "style.safetensors").rename(tmp_path / "loras" / "style.safetensors")


def test_those_of_another_program(eightfold: Any, picture: Path, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "style.safetensors")
    settings = "Steps: 2, Sampler: Euler, Schedule type: Uniform, CFG scale: 3, Seed: 5, Size: 24x32, RNG: CPU"
    texts = {
        "named": ("<lora:style:0.3>", settings, True),
        "hashed": ("<lora:style:0.3>", f'{settings}, Lora hashes: "style: {hash_weights(path)[:12]}"', True),
        "other": ("<lora:style:0.3>", f'{settings}, Lora hashes: "style: 0123456789ab"', False),
        "gone": ("<lora:nobody:0.3>", settings, False),
    }
    for name, (tag, line, is_found) in texts.items():
        write_text(tmp_path / f"{name}.png", parameters=f"a red {tag}cube\n{line}")
        answer = eightfold("generate", "--like", f"{name}.png", "--out", f"{name}-again.png")
        assert answer.code == 0 and ("lora" in answer.err) != is_found, answer.err
        record = read_record(tmp_path / f"{name}-again.png")
        assert record["prompt"] == "a red cube" and [one["weight"] for one in record.get("adapters", [])] == [0.3] * is_found
    assert "style.safetensors has another content, not 0123456789ab" in eightfold("generate", "--like", "other.png", "--out", "z.png").err


@pytest.mark.parametrize("file", ["/dev/zero", "pipe.safetensors", "folder.safetensors", "..", "", "a\0b.safetensors", "notes.txt"])
def test_what_a_stranger_names_is_not_opened(eightfold: Any, picture: Path, tmp_path: Path, file: str) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    row = {"file": file, "sha256": "0" * 64, "weight": 1.0}
    guide = {"net": file, "picture": file, "sha256": "0" * 64}
    record = read_record(picture) | {"adapters": [row], "embeddings": [row], "text": [row], "controls": [guide, 5]}
    write_text(tmp_path / "y.png", eightfold=json.dumps(record))
    answer = eightfold("generate", "--like", "y.png", "--out", "z.png")
    assert answer.code == 0 and read_record(tmp_path / "z.png")["controls"] == []
    assert "control" in answer.err and "adapters" not in read_record(tmp_path / "z.png")


def test_the_two_passes_of_a1111(eightfold: Any, tmp_path: Path) -> None:
    line = "Steps: 4, Sampler: Euler, CFG scale: 3, Seed: 5, Size: 24x32, RNG: CPU, Denoising strength: 0.5, Hires upscale: 2"
    write_text(tmp_path / "x.png", parameters=f"a red cube\n{line}, Hires upscaler: Latent, Schedule type: Uniform")
    answer = eightfold("generate", "--like", "x.png", "--out", "y.png")
    assert (
        answer.code == 0 and "Hires upscaler: Latent" in answer.err and "strength" not in answer.err and "Hires upscale:" not in answer.err
    )
    record = read_record(tmp_path / "y.png")
    assert (record["width"], record["height"], record["enlarge"], record["enlarge_strength"]) == (48, 64, 2.0, 0.5)
