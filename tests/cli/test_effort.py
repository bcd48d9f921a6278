"""How far encode and decode go: --memory, --explain, --fast and --yes, as a user types them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from eightfold.cli import transcode
from eightfold.codec import engine as engines
from eightfold.codec.latentfile import read_latent
from eightfold.codec.pixels import read_metadata
from eightfold.core.memory import read_amount, to_amount
from pocketfile import read_pixels, write_photo

BASE = 200 << 20
SIZE = (150, 204)


@pytest.fixture(autouse=True)
def _steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that takes the same whatever was run in it before, and spills into a folder of its own."""
    monkeypatch.setattr(engines, "measure_resident", lambda: BASE)
    monkeypatch.setattr(engines, "RESERVE", 0)
    monkeypatch.setattr(engines, "measure_free", lambda: 1 << 40)
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path.parent / "cache"))


def find_amount(eightfold: Any, verb: str, source: str, share: float) -> str:
    """What the fastest plan takes, but for a part of the rise."""
    (found,) = eightfold(verb, source, "--explain", "--json", "--memory", "1TB").results
    return str(BASE + int((found["fastest_bytes"] - BASE) * share))


def test_explain_writes_nothing(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", *SIZE)
    assert eightfold("encode", "photo.png").code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for verb, source in (("encode", "photo.png"), ("decode", "photo.latent.safetensors")):
        answer = eightfold(verb, source, "--explain")
        assert answer.code == 0
        lines = answer.out.splitlines()
        assert lines[0] == f"{verb} 152x208, float32 on cpu" and [line.split()[0] for line in lines[1:4]] == ["kernels", "memory", "time"]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_explain_says_each_size_once(eightfold: Any, tmp_path: Path) -> None:
    for name, size in {"a": (40, 24), "b": (64, 64), "c": (40, 24)}.items():
        write_photo(tmp_path / f"{name}.png", *size)
    answer = eightfold("encode", "a.png", "b.png", "c.png", "--explain", "--json")
    assert answer.code == 0
    assert [(one["source"], one["width"], one["height"]) for one in answer.results] == [("a.png", 40, 24), ("b.png", 64, 64)]
    assert all(one["task"] == "encode" and one["peak_bytes"] > BASE for one in answer.results)
    (tmp_path / "bad.png").write_text("no picture")
    answer = eightfold("encode", "a.png", "bad.png", "--explain")
    assert answer.code == 3 and "bad.png" in answer.err and answer.out.startswith("encode 40x24")
    assert eightfold("encode", ".", "--explain").out.count("float32 on cpu") == 2


def test_explain_a_bound(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", *SIZE)
    amount = find_amount(eightfold, "encode", "photo.png", 0.5)
    answer = eightfold("encode", "photo.png", "--explain", "--memory", amount)
    assert f"; {to_amount(int(amount))} allowed" in answer.out and " passes " in answer.out and "s at best, in" in answer.out
    (found,) = eightfold("encode", "photo.png", "--explain", "--memory", amount, "--json").results
    assert found["budget_bytes"] == int(amount) >= found["peak_bytes"] and found["levels"]


@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_a_bound_changes_no_result(verb: str, eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", *SIZE)
    assert eightfold("encode", "photo.png").code == 0
    source = "photo.png" if verb == "encode" else "photo.latent.safetensors"
    amount = find_amount(eightfold, verb, source, 0.5)
    ending = ".safetensors" if verb == "encode" else ".png"
    assert eightfold(verb, source, "--out", f"plain{ending}").code == 0
    assert eightfold(verb, source, "--out", f"small{ending}", "--memory", amount, "--yes").code == 0
    if verb == "encode":
        plain, small = (read_latent(tmp_path / f"{name}.safetensors") for name in ("plain", "small"))
        assert torch.allclose(plain.raw, small.raw, atol=5e-5) and "feature_maps" in small.run and "feature_maps" not in plain.run
    else:
        plain, small = (read_pixels(tmp_path / f"{name}.png").astype(int) for name in ("plain", "small"))
        assert abs(plain - small).max() <= 1
        assert "feature_maps" in json.loads(read_metadata(tmp_path / "small.png")["eightfold"])["run"]


@pytest.mark.parametrize("verb", ["encode", "roundtrip", "noise"])
def test_too_little_memory(verb: str, eightfold: Any, refuse: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", *SIZE)
    line = refuse(verb, "photo.png", "--memory", "100MB")
    assert "--memory allows 100 MB" in line
    found = re.search(r"--memory (\S+) is the smallest that works", line)
    assert found is not None and read_amount(found[1]) > BASE
    effort = ("--yes",) if verb == "encode" else ()
    if verb == "encode":
        assert eightfold(verb, "photo.png", "--memory", found[1], *effort).code == 0


def test_generating_in_too_little_memory(eightfold: Any, refuse: Any) -> None:
    assert "--memory allows 100 MB" in refuse("generate", "red cube", "--steps", "1", "--memory", "100MB")
    assert eightfold("generate", "red cube", "--steps", "1", "--memory", "2GB").code == 0


@pytest.mark.parametrize("verb", [("encode", "photo.png"), ("roundtrip", "photo.png"), ("noise", "photo.png"), ("generate", "red cube")])
@pytest.mark.parametrize("amount", ["lots", "0", "-4GB"])
def test_no_amount(verb: tuple[str, str], amount: str, refuse: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 16, 16)
    assert "no amount of memory" in refuse(*verb, f"--memory={amount}")


def test_fast_is_said_and_recorded(eightfold: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "TILE", 12)
    monkeypatch.setattr(engines, "OVERLAP", 4)
    write_photo(tmp_path / "photo.png", *SIZE)
    write_photo(tmp_path / "small.png", 96, 80)
    answer = eightfold("encode", "photo.png", "small.png", "--fast")
    big, small = answer.out.splitlines()
    assert big.endswith("(approximate: in tiles of 12x12 cells, blended over 4)") and small.endswith("of 96x80, mode")
    latent = read_latent(tmp_path / "photo.latent.safetensors")
    assert latent.run["tiles"] == "12x12 cells, blended over 4" and "approximate" in " ".join(latent.notes)
    answer = eightfold("decode", "photo.latent.safetensors", "--fast", "--out", "back.png")
    assert answer.out == "back.png  150x204 (approximate: in tiles of 12x12 cells, blended over 4)\n"
    record = json.loads(read_metadata(tmp_path / "back.png")["eightfold"])
    assert record["run"]["tiles"] and any("approximate" in note for note in record["notes"])


def test_slow_runs_need_a_yes(eightfold: Any, refuse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sits at a terminal here."""
    write_photo(tmp_path / "photo.png", *SIZE)
    amount = find_amount(eightfold, "encode", "photo.png", 0.4)
    monkeypatch.setattr(engines, "SLOW", 1.0)
    line = refuse("encode", "photo.png", "--memory", amount)
    assert "instead of" in line and "--yes goes on all the same" in line and re.search(r"--memory \S+ would avoid that", line)
    assert eightfold("encode", "photo.png", "--memory", amount, "--yes").code == 0


@pytest.mark.parametrize("agrees", [True, False])
def test_slow_runs_are_asked_about(agrees: bool, eightfold: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(question: str) -> bool:
        asked.append(question)
        return agrees

    write_photo(tmp_path / "photo.png", *SIZE)
    amount = find_amount(eightfold, "encode", "photo.png", 0.4)
    monkeypatch.setattr(engines, "SLOW", 1.0)
    monkeypatch.setattr(transcode, "ask", answer)
    assert eightfold("encode", "photo.png", "--memory", amount).code == (0 if agrees else 2)
    assert len(asked) == 1 and asked[0].endswith("Go on?") and (tmp_path / "photo.latent.safetensors").exists() is agrees
