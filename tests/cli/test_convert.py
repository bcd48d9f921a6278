"""eightfold convert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from eightfold.checkpoints.formats import read_safetensors_header
from eightfold.core.errors import EightfoldError
from eightfold.pipelines.bundle import load_autoencoder
from layouts import narrow
from pocketfile import POCKET_FILE


@pytest.fixture
def autoencoder(tmp_path: Path) -> Path:
    """The toy of a public autoencoder, as diffusers names it."""
    generator = torch.Generator().manual_seed(2)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in narrow("sd1_vae").items()}
    save_file(tensors, tmp_path / "vae.safetensors", metadata={"format": "pt"})
    return tmp_path / "vae.safetensors"


def test_there_and_back(eightfold: Any, tmp_path: Path, autoencoder: Path) -> None:
    answer = eightfold("convert", "vae.safetensors", "original.safetensors", "--layout", "original")
    size = (tmp_path / "original.safetensors").stat().st_size
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"original.safetensors  autoencoder, original layout, float32, 248 tensors, {size / 1e6:.1f} MB\n"
    answer = eightfold("convert", "original.safetensors", "new/back.safetensors", "--layout", "diffusers", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.results == {
        "source": "original.safetensors",
        "out": "new/back.safetensors",
        "component": "autoencoder",
        "layout": "diffusers",
        "dtypes": ["float32"],
        "tensors": 248,
        "bytes": autoencoder.stat().st_size,
        "left_out": [],
        "notes": [],
    }
    assert (tmp_path / "new" / "back.safetensors").read_bytes() == autoencoder.read_bytes()


def test_a_part_of_the_embedded_model(eightfold: Any, tmp_path: Path) -> None:
    """The autoencoder taken out of it is the same, by fingerprint."""
    assert eightfold("convert", POCKET_FILE, "vae.safetensors", "--component", "autoencoder").code == 0
    found, whole = load_autoencoder(tmp_path / "vae.safetensors"), load_autoencoder("pocket")
    assert (found.encoder_fingerprint, found.decoder_fingerprint) == (whole.encoder_fingerprint, whole.decoder_fingerprint)
    assert eightfold("convert", "vae.safetensors", "vae.safetensors", "--dtype", "float32", "--overwrite").code == 2
    assert eightfold("convert", "vae.safetensors", "wide.safetensors", "--dtype", "float32").out.count("float32") == 1
    assert {tensor.dtype for tensor in load_file(tmp_path / "wide.safetensors").values()} == {torch.float32}


def test_what_is_left_out_is_said(eightfold: Any, tmp_path: Path) -> None:
    tensors = {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in narrow("pixart-alpha_denoiser.original").items()}
    save_file(tensors, tmp_path / "pixart.safetensors")
    answer = eightfold("convert", "pixart.safetensors", "out.safetensors", "--layout", "diffusers")
    lines = answer.out.splitlines()
    assert answer.code == 0 and lines[0].startswith("out.safetensors  denoiser, diffusers layout, bfloat16, ")
    assert [line.partition(":")[0] for line in lines[1:]] == ["  left out"] * 2 and "pos_embed: " in answer.out


def test_what_was_not_read_is_said(eightfold: Any, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": torch.nn.Linear(1, 1)}, tmp_path / "a.ckpt")
    answer = eightfold("convert", "a.ckpt", "out.safetensors")
    assert answer.code == 0 and "  note: b: a Linear, which is not read\n" in answer.out
    assert load_file(tmp_path / "out.safetensors").keys() == {"a"}
    assert any(note.startswith("b: a Linear") for note in eightfold("convert", "a.ckpt", "o.safetensors", "--json").results["notes"])


def test_refusals(eightfold: Any, refuse: Any, tmp_path: Path, autoencoder: Path) -> None:
    save_file({"lora_unet_mid_block.lora_down.weight": torch.ones(2)}, tmp_path / "lora.safetensors")
    save_file({"a": torch.tensor([1e6])}, tmp_path / "large.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    vae, out = autoencoder.name, "out.safetensors"
    assert "is a LoRA" in refuse("convert", "lora.safetensors", out)
    assert "has 3 components: autoencoder, denoiser, text" in refuse("convert", POCKET_FILE, out)
    assert "--component" in refuse("convert", POCKET_FILE, out)
    assert "did you mean denoiser?" in refuse("convert", POCKET_FILE, out, "--component", "denoise")
    assert "one layout only" in refuse("convert", POCKET_FILE, out, "--component", "denoiser", "--layout", "original")
    assert "no other layout" in refuse("convert", POCKET_FILE, out, "--component", "text", "--layout", "original")
    assert "no other layout" in refuse("convert", "large.safetensors", out, "--layout", "diffusers")
    assert "tensor a reaches 1000000, and float16 ends at 65504" in refuse("convert", "large.safetensors", out, "--dtype", "float16")
    assert "exists already" in refuse("convert", vae, vae)
    assert "is what is to be converted" in refuse("convert", vae, vae, "--overwrite")
    assert "exists already" in refuse("convert", vae, "large.safetensors")
    assert "is a folder" in refuse("convert", vae, "folder.safetensors", "--overwrite")
    assert "name it out.safetensors" in refuse("convert", vae, "out.ckpt")
    assert "cannot read" in refuse("convert", "missing.safetensors", out)
    assert "is not a folder" in refuse("convert", vae, f"{vae}/{out}")
    for option in (("--layout", "flux"), ("--dtype", "int8"), ("--dtype", "auto")):
        assert "--help" in refuse("convert", vae, out, *option)
    assert "--help" in refuse("convert", vae)


def test_an_old_file_is_replaced_only_when_told_to(eightfold: Any, tmp_path: Path, autoencoder: Path) -> None:
    (tmp_path / "out.safetensors").write_bytes(b"old")
    assert eightfold("convert", "vae.safetensors", "out.safetensors", "--dtype", "bfloat16", "--overwrite").code == 0
    found = read_safetensors_header(tmp_path / "out.safetensors")
    assert {info.dtype for info in found.tensors.values()} == {"BF16"} and found.metadata == {"format": "pt"}


def test_progress_is_drawn(eightfold: Any, autoencoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event for every tensor reaches the console; what interrupts the writing leaves no file."""
    seen: list[tuple[int, int]] = []

    def update(self: Any, progress: Any) -> None:
        seen.append((progress.number, progress.total))
        if progress.number == 100:
            raise EightfoldError("enough", hint="stop")

    monkeypatch.setattr("eightfold.cli.console.Lines.update", update)
    answer = eightfold("convert", "vae.safetensors", "out.safetensors")
    assert answer.code == 2 and seen[-1] == (100, 248)
    assert [path.name for path in autoencoder.parent.iterdir()] == ["vae.safetensors"]
