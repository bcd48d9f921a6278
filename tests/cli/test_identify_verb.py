"""eightfold identify and match, as a user types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from eightfold.checkpoints.load import read_tensors
from eightfold.checkpoints.save import write_safetensors
from eightfold.pipelines import twins
from eightfold.specs.published import PublishedFile
from layouts import read_layout
from pocketfile import POCKET_FILE, write_photo
from toyspaces import FOUR, TOYS, build_toy_codec, draw_weights

KEYS = ("family", "space", "component", "variant", "layout", "dtype", "parameters", "latent_channels", "downscale", "ties", "evidence")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(folder))
    return folder


def write_vae(path: Path, dtype: torch.dtype = torch.float32) -> Path:
    tensors = {name: tensor.to(dtype) for name, tensor in read_tensors(POCKET_FILE, "autoencoder.").items()}
    write_safetensors(path, tensors, {}, overwrite=False)
    return path


def test_a_whole_model(eightfold: Any) -> None:
    answer = eightfold("identify", POCKET_FILE)
    assert answer.code == 0 and answer.err == ""
    lines = answer.out.splitlines()
    assert lines[0] == str(POCKET_FILE)
    assert lines[1].startswith("  autoencoder: space pocket, 4 channels at 1/8, float16, 2,059,287 numbers")
    assert any(line.startswith("  denoiser: pocket, space pocket") for line in lines)
    records = eightfold("identify", POCKET_FILE, "--json").results
    assert [record["component"] for record in records] == ["autoencoder", "denoiser", "text"]
    assert all(key in record for record in records for key in KEYS)
    assert records[1]["family"] == records[1]["space"] == "pocket"


def test_several_files_one_of_them_bad(eightfold: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.safetensors").touch()
    write_vae(tmp_path / "vae.safetensors")
    answer = eightfold("identify", "empty.safetensors", "vae.safetensors", "--json")
    assert answer.code == 3 and answer.err.count("\n") == 1 and "empty.safetensors" in answer.err
    assert [record.get("space") for record in answer.results] == [None, "pocket"]


def test_a_lora_is_no_model(refuse: Any, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "lora.safetensors", {"lora_unet_a.lora_down.weight": torch.zeros(4, 8)}, {}, overwrite=False)
    assert "lora.safetensors is a LoRA" in refuse("identify", "lora.safetensors")


def test_unknown_says_what_is_nearest(eightfold: Any, tmp_path: Path) -> None:
    shapes = {name: shape for name, shape in read_layout("sd_vae.original").items() if "conv_in" in name or "post_quant" in name}
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    write_safetensors(tmp_path / "part.safetensors", tensors, {}, overwrite=False)
    out = eightfold("identify", "part.safetensors").out
    assert "unknown: not known" in out and "nearest: autoencoder of" in out and "is not there" in out


def test_remembering_names_it_again_in_any_dtype(eightfold: Any, tmp_path: Path, cache: Path) -> None:
    write_vae(tmp_path / "vae.safetensors")
    write_vae(tmp_path / "brain.safetensors", torch.bfloat16)
    assert "remembered" not in eightfold("identify", "vae.safetensors").out
    answer = eightfold("identify", "vae.safetensors", "--remember", "my own")
    assert answer.code == 0 and f"kept as my own in {cache}" in answer.out
    shutil.copy(tmp_path / "vae.safetensors", tmp_path / "renamed.safetensors")
    assert "remembered as my own, by fingerprint" in eightfold("identify", "renamed.safetensors").out
    (record,) = eightfold("identify", "brain.safetensors", "--json").results
    assert (record["name"], record["known_by"]) == ("my own", "kinship")
    (cache / "known.json").write_text("[]")
    assert eightfold("identify", "vae.safetensors").code == 2


def test_what_was_published_has_a_name(eightfold: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the whole file, which is read only where its size fits; and in any file by the weights, where their fingerprint is known."""
    shapes = {name: [1 if size > 16 else size for size in shape] for name, shape in read_layout("sd_vae.original").items()}
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    write_safetensors(tmp_path / "vae.safetensors", tensors, {}, overwrite=False)
    content = (tmp_path / "vae.safetensors").read_bytes()
    one = PublishedFile(name="a vae", space="sdxl", bytes=len(content), sha256=sha256(content).hexdigest())
    monkeypatch.setattr("eightfold.checkpoints.published.PUBLISHED_FILES", (replace(one, sha256="0" * 64, name="another"), one))
    assert "published as a vae, by file, of space sdxl" in eightfold("identify", "vae.safetensors").out
    (tmp_path / "other.safetensors").write_bytes(content[:-1] + b"\1")
    assert "published" not in eightfold("identify", "other.safetensors").out
    write_vae(tmp_path / "small.safetensors", torch.float16)
    for name in (POCKET_FILE, "small.safetensors"):
        records = eightfold("identify", name, "--json").results
        assert (records[0]["name"], records[0]["known_by"]) == ("pocket", "fingerprint")
    found = {Path(one["path"]).name: one.get("name") for one in eightfold("models", tmp_path, "--json").results}
    assert found == {"vae.safetensors": "a vae", "other.safetensors": None, "small.safetensors": "pocket"}
    assert "  autoencoder published as pocket, by fingerprint" in eightfold("models", tmp_path).out


def test_options_that_do_not_go_together(refuse: Any, tmp_path: Path) -> None:
    assert "no file given" in refuse("identify")
    write_vae(tmp_path / "vae.safetensors")
    assert "--measure" in refuse("identify", "vae.safetensors", "--picture", "a.png")
    assert "one file" in refuse("identify", "vae.safetensors", "vae.safetensors", "--remember", "x")


def test_measuring_what_is_no_tie(eightfold: Any, tmp_path: Path) -> None:
    write_vae(tmp_path / "vae.safetensors")
    assert "nothing to measure" in eightfold("identify", "vae.safetensors", "--measure").out


def test_measuring_a_tie(eightfold: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = replace(TOYS["sd"], autoencoder=replace(FOUR, blocks=2))
    write_safetensors(tmp_path / "vae.safetensors", draw_weights(toy), {}, overwrite=False)
    write_photo(tmp_path / "photo.png", 45, 30)
    codec = build_toy_codec(toy)
    monkeypatch.setattr(twins, "load_codec", lambda *_, **__: codec)
    answer = eightfold("identify", "vae.safetensors", "--measure", "--picture", "photo.png")
    assert answer.code == 0 and "verdict: " in answer.out and "as sdxl: deviation" in answer.out and "margin" in answer.out
    (record,) = eightfold("identify", "vae.safetensors", "--measure", "--json").results
    assert {one["space"] for one in record["measured"]["measured"]} == {"sd", "sdxl"}


def test_match(eightfold: Any, refuse: Any, tmp_path: Path) -> None:
    write_vae(tmp_path / "vae.safetensors")
    answer = eightfold("match", "vae.safetensors", POCKET_FILE)
    assert answer.code == 0 and answer.out.startswith("match: vae.safetensors and ")
    assert "kinship" in answer.out
    assert eightfold("match", "vae.safetensors", "vae.safetensors", "--json").results["proven"] is True
    assert "No such file" in refuse("match", "vae.safetensors", "missing.safetensors")


def test_identify_loads_no_torch(tmp_path: Path) -> None:
    code = f"""
import sys
from eightfold.cli.main import run
code = run(["identify", {json.dumps(str(POCKET_FILE))}])
print([name for name in ("torch", "numpy", "pydantic") if name in sys.modules], code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
