"""Special editions as a user types them: one that changes pictures by instructions, one that is told its guidance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eightfold.codec.pixels import read_metadata
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.specs.mark import Mark
from pocketfile import write_photo
from toymodels import TOY, XL, know, write_model
from toytowers import BOTH

EDITIONS = {edition.name: edition for edition in SDXL_FAMILY.editions}
WIDE, TOLD = replace(TOY, channels=8), replace(TOY, guidance=16)
READER = "time_embedding.cond_proj.weight"
INSTRUCT = replace(EDITIONS["instruct"], marks=(Mark("conv_in.weight", (None, 8, 3, 3)),), denoiser=WIDE)
FAST = replace(EDITIONS["lcm"], marks=(Mark(READER),), denoiser=TOLD)
HOW = ("--seed", "5", "--size", "32x24")


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    base = replace(XL.editions[0], marks=(Mark("conv_in.weight", (None, 4, 3, 3)), Mark(READER, absent=True)))
    know(monkeypatch, replace(XL, editions=(base, INSTRUCT, FAST)))


def test_a_picture_is_changed_by_an_instruction(eightfold: Any, refuse: Any, tmp_path: Path) -> None:
    write_model(tmp_path / "instruct.safetensors", WIDE, BOTH)
    write_photo(tmp_path / "photo.png", 32, 24)
    how = ("--model", "instruct.safetensors", "--steps", "2", "--seed", "5")
    answer = eightfold("generate", "make it red", *how, "--start", "photo.png", "--picture-guidance", "2", "--out", "x.png")
    assert answer.code == 0, answer.err
    assert json.loads(read_metadata(tmp_path / "x.png")["eightfold"])["picture_guidance"] == 2.0
    again = ("--model", "instruct.safetensors", "--start", "photo.png", "--out", "y.png")
    assert eightfold("generate", "--like", "x.png", *again).code == 0
    assert (tmp_path / "y.png").read_bytes() == (tmp_path / "x.png").read_bytes()
    (plan,) = eightfold("generate", "make it red", *how, "--start", "photo.png", "--explain", "--json").results
    assert (plan["edition"], plan["picture_guidance"], plan["strength"]) == ("instruct", 1.5, 1.0)
    assert "is shown a picture" in refuse("generate", "make it red", *how)
    assert "picture guidance: -1" in refuse("generate", "make it red", *how, "--start", "photo.png", "--picture-guidance=-1")


def test_one_that_is_told_its_guidance(eightfold: Any, refuse: Any, tmp_path: Path) -> None:
    write_model(tmp_path / "fast.safetensors", TOLD, BOTH)
    how = ("--model", "fast.safetensors", *HOW)
    assert eightfold("generate", "a red cube", *how, "--out", "x.png").code == 0
    record = json.loads(read_metadata(tmp_path / "x.png")["eightfold"])
    assert (record["sampler"], record["grid"], record["steps"], record["guidance"]) == ("lcm", "lcm", 4, 8.0)
    assert eightfold("generate", "--like", "x.png", "--model", "fast.safetensors", "--out", "y.png").code == 0
    assert (tmp_path / "y.png").read_bytes() == (tmp_path / "x.png").read_bytes()
    assert "a negative prompt has no effect" in refuse("generate", "a red cube", *how, "--negative", "a ball")
    assert "60 steps on the grid lcm" in refuse("generate", "a red cube", *how, "--steps", "60")


def test_one_on_other_noise_levels(eightfold: Any, refuse: Any, tmp_path: Path) -> None:
    write_model(tmp_path / "edm.safetensors", TOY, BOTH, marks=[("edm_vpred.sigma_max", torch.tensor(120.0))])
    write_model(tmp_path / "bad.safetensors", TOY, BOTH, marks=[("edm_vpred.sigma_max", torch.tensor(-1.0))])
    (plan,) = eightfold("generate", "a red cube", "--model", "edm.safetensors", *HOW, "--explain", "--json").results
    assert plan["notes"] == ["it predicts velocity: the file has edm_vpred.sigma_max"] and plan["grid"] == "exponential"
    assert eightfold("generate", "a red cube", "--model", "edm.safetensors", "--steps", "2", *HOW, "--out", "x.png").code == 0
    assert "expected 0 < lowest < highest" in refuse("generate", "a red cube", "--model", "bad.safetensors", *HOW)
    assert "picture guidance: this model is not one" in refuse("generate", "x", "--model", "edm.safetensors", "--picture-guidance", "2")
    refused = refuse("generate", "a red cube", "--model", "edm.safetensors", *HOW, "--grid", "ays")
    assert "no schedule was published" in refused
