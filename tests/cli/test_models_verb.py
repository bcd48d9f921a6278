"""eightfold models, as a user types it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from eightfold.checkpoints.save import write_safetensors
from eightfold.pipelines.bundle import to_path
from pocketfile import write_vae


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The pocket model, an autoencoder of its own and one of another space, a LoRA, a broken file and one that is none of ours."""
    models = tmp_path / "models"
    (models / "vae").mkdir(parents=True)
    shutil.copy(to_path("pocket"), models / "pocket.safetensors")
    write_vae(models / "vae" / "own.safetensors")
    down = "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"
    write_safetensors(models / "style.safetensors", {down: torch.ones(4, 8)}, {}, overwrite=False)
    (models / "broken.safetensors").write_bytes(b"no weights")
    (models / "notes.txt").write_text("nothing")
    return models


def test_what_is_there_and_what_goes_together(eightfold: Any, folder: Path) -> None:
    answer = eightfold("models", folder, "--json")
    assert answer.code == 0
    found = {Path(one["path"]).name: one for one in answer.results}
    assert set(found) == {"pocket.safetensors", "own.safetensors", "style.safetensors", "broken.safetensors"}
    pocket = found["pocket.safetensors"]
    assert {one["component"] for one in pocket["components"]} == {"autoencoder", "denoiser", "text"}
    assert pocket["draws"] and pocket["lacks"] == [] and pocket["bytes"] == to_path("pocket").stat().st_size
    assert [Path(path).name for path in pocket["fits"]] == ["own.safetensors"]
    assert "a LoRA" in found["style.safetensors"]["problem"] and found["broken.safetensors"]["problem"]
    assert found["own.safetensors"]["fits"] == []


def test_as_text(eightfold: Any, folder: Path) -> None:
    answer = eightfold("models", folder)
    assert answer.code == 0
    assert "denoiser: pocket" in answer.out and f"goes with {Path('vae', 'own.safetensors')}" in answer.out


def test_text_towers_have_names(eightfold: Any, tmp_path: Path) -> None:
    width, tensors = 768, {}
    for name, shape in {"token_embedding": (3, width), "position_embedding": (77, width)}.items():
        tensors[f"text_model.embeddings.{name}.weight"] = torch.zeros(shape)
    tensors |= {f"text_model.encoder.layers.{layer}.layer_norm1.weight": torch.ones(width) for layer in range(12)}
    write_safetensors(tmp_path / "clip.safetensors", tensors, {}, overwrite=False)
    answer = eightfold("models", tmp_path)
    assert answer.code == 0 and "  text: text tower clip-l, diffusers layout, float32" in answer.out
    (record,) = eightfold("identify", "clip.safetensors", "--json").results
    assert (record["component"], record["tower"]) == ("text", "clip-l")


def test_no_folder(refuse: Any, tmp_path: Path) -> None:
    assert "is not a folder" in refuse("models", tmp_path / "nowhere")


def test_an_empty_folder(eightfold: Any, tmp_path: Path) -> None:
    assert eightfold("models", tmp_path, "--json").results == []
