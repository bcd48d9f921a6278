"""generate --refiner and --handover, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eightfold.codec.pixels import read_metadata
from toymodels import TOY, TOY_REFINER, XL, know, write_model
from toytowers import BOTH, REFINER

HOW = ("--model", "base.safetensors", "--steps", "8", "--size", "48x32", "--seed", "5")
BY = ("--refiner", "refiner.safetensors")


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, XL)
    write_model(tmp_path / "base.safetensors", TOY, BOTH)
    write_model(tmp_path / "refiner.safetensors", TOY_REFINER, REFINER, seed=2)


def test_a_refined_picture_and_the_same_again(eightfold: Any, tmp_path: Path) -> None:
    assert eightfold("generate", "a red cube", *HOW, *BY, "--handover", "0.6", "--out", "x.png").code == 0
    record = json.loads(read_metadata(tmp_path / "x.png")["eightfold"])
    assert (record["handover"], record["refiner"]) == (0.6, "refiner.safetensors")
    assert eightfold("generate", "a red cube", *HOW, "--out", "plain.png").code == 0
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "x.png").read_bytes()
    again = eightfold("generate", "--like", "x.png", "--model", "base.safetensors", *BY, "--out", "y.png")
    assert again.code == 0 and "not as it was" not in again.err, again.err
    assert (tmp_path / "y.png").read_bytes() == (tmp_path / "x.png").read_bytes()


def test_the_plan_names_both(eightfold: Any, tmp_path: Path) -> None:
    (plan,) = eightfold("generate", "a red cube", *HOW, *BY, "--explain", "--json").results
    assert plan["refiner"] == "refiner.safetensors" and plan["handover"] == 0.8
    size = {"width": 48, "height": 32}
    assert plan["legs"] == [{**size, "steps": 7}, {**size, "steps": 1, "by": "refiner"}]
    (plan,) = eightfold("generate", "a red cube", *HOW, "--explain", "--json").results
    assert "refiner" not in plan and plan["legs"] == [{**size, "steps": 8}]


def test_a_sheet_of_handovers(eightfold: Any, tmp_path: Path) -> None:
    answer = eightfold("sheet", "a red cube", *HOW, *BY, "--across", "handover=0.3,0.8", "--out", "s.png", "--json")
    assert answer.code == 0, answer.err
    assert answer.results[0]["cells"] == ["handover 0.3", "handover 0.8"]


def test_bad_input(refuse: Any, tmp_path: Path) -> None:
    assert "there is no refiner" in refuse("generate", "a red cube", *HOW, "--handover", "0.5")
    assert "less than 1" in refuse("generate", "a red cube", *HOW, *BY, "--handover", "1.5")
    assert "is no refiner" in refuse("generate", "a red cube", *HOW, "--refiner", "base.safetensors")
    assert "gone.safetensors" in refuse("generate", "a red cube", *HOW, "--refiner", "gone.safetensors")
    assert "the last of the 2 steps" in refuse("generate", "a red cube", *HOW[:2], *BY, "--steps", "2")


def test_like_without_its_refiner(eightfold: Any, refuse: Any, tmp_path: Path) -> None:
    assert eightfold("generate", "a red cube", *HOW, *BY, "--out", "x.png").code == 0
    line = refuse("generate", "--like", "x.png", "--model", "base.safetensors", "--out", "y.png")
    assert "there is no refiner" in line and "--refiner FILE" in line
