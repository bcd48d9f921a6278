"""eightfold info."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from eightfold.checkpoints.save import write_safetensors
from eightfold.pipelines.bundle import load
from pocketfile import POCKET_FILE, build_latent, write_photo, write_vae


def read_facts(eightfold: Any, path: object) -> dict[str, Any]:
    answer = eightfold("info", path, "--json")
    assert answer.code == 0 and answer.err == "", answer.err
    return answer.results


def test_picture(eightfold: Any, tmp_path: Path) -> None:
    path = write_photo(tmp_path / "photo.png", 45, 30, alpha=True)
    facts = read_facts(eightfold, "photo.png")
    expected = {
        "file": "photo.png",
        "bytes": path.stat().st_size,
        "kind": "picture",
        "format": "PNG",
        "mode": "RGBA",
        "width": 45,
        "height": 30,
    }
    assert facts == expected
    lines = eightfold("info", "photo.png").out.splitlines()
    assert "kind    picture" in lines and "width   45" in lines


def test_generated_pictures_say_how_they_were_made(eightfold: Any) -> None:
    made = eightfold("generate", "a red cube", "--size", "32x24", "--steps", "2", "--seed", "6", "--film", "film.png", "--out", "x.png")
    assert made.code == 0
    facts = read_facts(eightfold, "x.png")
    assert (facts["width"], facts["height"]) == (32, 24)
    made_with = facts["made with"]
    assert (made_with["prompt"], made_with["seed"], made_with["steps"]) == ("a red cube", 6, 2)
    assert made_with["fingerprint"] == load("pocket").fingerprint
    film = read_facts(eightfold, "film.png")
    assert (film["width"], film["height"]) == (82, 36)  # of the file, whatever the request was
    text = eightfold("info", "x.png").out
    assert "made with\n" in text and "prompt" in text


def test_latent(eightfold: Any, tmp_path: Path) -> None:
    build_latent(width=16, height=24).save(tmp_path / "a.latent.safetensors")
    facts = read_facts(eightfold, "a.latent.safetensors")
    assert (facts["kind"], facts["shape"], facts["space"]) == ("latent", [1, 4, 3, 2], "pocket")
    assert (facts["width"], facts["height"], facts["reading"]) == ("16", "24", "mode")
    assert eightfold("info", "a.latent.safetensors").code == 0


def test_weights(eightfold: Any, tmp_path: Path) -> None:
    facts = read_facts(eightfold, POCKET_FILE)
    assert facts["kind"] == "weights" and facts["looks like"] == ["pocket"]
    assert set(facts["parts"]) == {"autoencoder", "denoiser", "text"}
    assert sum(facts["parts"].values()) == facts["parameters"]
    vae = read_facts(eightfold, write_vae(tmp_path / "vae.safetensors"))
    assert vae["looks like"] == ["pocket"] and vae["parts"] == {"autoencoder": facts["parts"]["autoencoder"]}
    assert "parameters" in eightfold("info", "vae.safetensors").out


@pytest.mark.parametrize("name", ["junk", "junk.png", "junk.safetensors", "junk.ckpt"])
@pytest.mark.parametrize("content", [b"", b"hello, this is text\n" * 5, bytes(range(256)) * 8, b"PK\x03\x04" + bytes(100)])
def test_junk(refuse: Any, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert name in refuse("info", name)


def test_torch_files_are_read_without_running_them(eightfold: Any, refuse: Any, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "no whole zip archive" in refuse("info", "model.ckpt")
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02}q\x00." + bytes(20))
    assert "Python pickle" in refuse("info", "old.ckpt")
    torch.save({"state_dict": {"a": torch.zeros(2, 3)}}, tmp_path / "new.pt")
    facts = read_facts(eightfold, "new.pt")
    assert (facts["format"], facts["parameters"], facts["looks like"]) == ("torch", 6, "no known space or family")


def test_an_adapter_is_called_that(eightfold: Any, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "lora.safetensors", {"lora_unet_a.lora_down.weight": torch.zeros(4, 8)}, {}, overwrite=False)
    assert read_facts(eightfold, "lora.safetensors")["looks like"] == ["a LoRA"]


def test_missing_and_folders(refuse: Any, tmp_path: Path) -> None:
    assert "not there" in refuse("info", "nothing.png")
    assert "not a file" in refuse("info", tmp_path)


def test_a_gif_whose_ninth_byte_is_a_brace(eightfold: Any, tmp_path: Path) -> None:
    Image.new("P", (5, ord("{"))).save(tmp_path / "x.gif")
    assert read_facts(eightfold, "x.gif")["height"] == ord("{")


@pytest.mark.parametrize("text", ["not JSON", "[1, 2]", "NaN", '{"width": NaN}', "[" * 100_000])
def test_foreign_texts_of_our_name(eightfold: Any, tmp_path: Path, text: str) -> None:
    chunks = PngInfo()
    chunks.add_text("eightfold", text)
    Image.new("RGB", (5, 4)).save(tmp_path / "x.png", pnginfo=chunks)
    facts = read_facts(eightfold, "x.png")
    assert facts["width"] == 5
    made = facts["made with"]
    assert made == {"width": None} if text.startswith("{") else made.startswith("not known: the text `eightfold`")
    assert eightfold("info", "x.png").code == 0


def test_metadata_cannot_steer_the_terminal(eightfold: Any, tmp_path: Path) -> None:
    chunks = PngInfo()
    chunks.add_itxt("Comment", "\x1b[2Jred\x9b31m")
    chunks.add_text("eightfold", json.dumps({"prompt": "a\nb\x1b]0;title\x07"}))
    Image.new("RGB", (5, 4)).save(tmp_path / "x.png", pnginfo=chunks)
    out = eightfold("info", "x.png").out
    assert "\x1b" not in out and "\x9b" not in out and "\x07" not in out
    assert "\\x1b[2Jred" in out and "a b" in out
