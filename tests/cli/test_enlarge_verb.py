"""eightfold enlarge, and generate --enlarge-model, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from eightfold.codec.pixels import read_metadata
from pocketfile import read_pixels, read_size, write_photo
from rrdbfile import CONFIGS, build, to_old

HOW = ("--size", "64x48", "--steps", "3", "--seed", "1", "--enlarge", "2")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    config = CONFIGS["x4"]
    save_file(to_old(build(config).state_dict(), config), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_pictures_are_made_larger(eightfold: Any, network: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", 20, 12, alpha=True)
    write_photo(tmp_path / "b.jpg", 9, 7)
    answer = eightfold("enlarge", "a.png", "b.jpg", "--model", "net.safetensors", "--out", "out", "--json")
    assert answer.code == 0, answer.err
    assert [(Path(one["path"]).name, one["width"], one["height"], one["factor"]) for one in answer.results] == [
        ("a.large.png", 80, 48, 4),
        ("b.large.png", 36, 28, 4),
    ]
    assert read_size(tmp_path / "out" / "a.large.png") == (80, 48) and read_pixels(tmp_path / "out" / "a.large.png").shape == (48, 80, 4)
    record = json.loads(read_metadata(tmp_path / "out" / "b.large.png")["eightfold"])
    assert record["enlarged"] == "b.jpg" and record["enlarger"]["file"] == "net.safetensors" and record["factor"] == 4
    again = eightfold("enlarge", "a.png", "--model", "net.safetensors", "--out", "out")
    assert again.code == 2 and "exists already" in again.err


def test_in_little_memory(eightfold: Any, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo(tmp_path / "a.png", 150, 140)
    monkeypatch.setattr("eightfold.pipelines.enlarge.Enlarger.choose_tile", lambda self, height, width: 128)
    answer = eightfold("enlarge", "a.png", "--model", "net.safetensors")
    assert answer.code == 0 and answer.out == "a.large.png (enlarged in tiles of 128 pixels)\n"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    answer = eightfold("enlarge", "a.png", "--model", "net.safetensors", "--memory", "1MB", "--overwrite")
    assert answer.code == 2 and "enlarging takes" in answer.err


def test_what_cannot_be(refuse: Any, network: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", 8, 8)
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    assert "no file given" in refuse("enlarge", "--model", "net.safetensors")
    assert "no network of ESRGAN's kind" in refuse("enlarge", "a.png", "--model", "other.safetensors")
    assert "nothing.pth" in refuse("enlarge", "a.png", "--model", "nothing.pth")
    assert "nothing.png" in refuse("enlarge", "nothing.png", "--model", "net.safetensors")
    assert "nothing to enlarge" in refuse("generate", "a red cube", "--enlarge-model", "net.safetensors")
    for options in ((), ("--explain",)):
        assert "no network of ESRGAN's" in refuse("generate", "a red cube", *HOW, "--enlarge-model", "other.safetensors", *options)


def test_between_two_passes_and_again(eightfold: Any, network: Path, tmp_path: Path) -> None:
    assert eightfold("generate", "a red cube", *HOW, "--out", "plain.png").code == 0
    answer = eightfold("generate", "a red cube", *HOW, "--enlarge-model", "net.safetensors", "--out", "x.png")
    assert answer.code == 0 and answer.is_calm, answer.err
    assert (read_pixels(tmp_path / "plain.png") != read_pixels(tmp_path / "x.png")).any()
    said = json.loads(read_metadata(tmp_path / "x.png")["eightfold"])["enlarge_model"]
    assert said["file"] == "net.safetensors" and len(said["sha256"]) == 64
    assert eightfold("generate", "--like", "x.png", "--out", "y.png").code == 0
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()
    network.unlink()
    answer = eightfold("generate", "--like", "x.png", "--out", "z.png")
    assert answer.code == 0 and "enlarge_model net.safetensors: not found; --enlarge-model gives it" in answer.err
    assert (tmp_path / "z.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
