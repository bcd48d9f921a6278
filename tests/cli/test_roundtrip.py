"""eightfold roundtrip with several autoencoders, cycles, folders and a report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from eightfold.codec.pixels import read_metadata
from pocketfile import read_size, write_photo, write_vae


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(["b.png", "a <x> \"y\" 'z'.png"]):
        write_photo(tmp_path / "in" / name, 40, 24, seed=seed)
    (tmp_path / "in" / "notes.txt").write_text("no picture, and not named like one")
    return tmp_path / "in"


def test_one_picture_and_one_autoencoder(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 24, 16)
    answer = eightfold("roundtrip", "photo.png")
    assert answer.code == 0 and answer.out.count("\n") == 1
    assert answer.out.startswith("photo.png  PSNR ") and " dB, SSIM " in answer.out and ", FLIP " in answer.out
    assert answer.out.endswith("-> photo.roundtrip.png\n") and sorted(path.name for path in tmp_path.iterdir()) == [
        "photo.png",
        "photo.roundtrip.png",
    ]
    (result,) = eightfold("roundtrip", "photo.png", "--out", "again.png", "--json").results
    assert (result["source"], result["path"], result["autoencoder"], result["space"], result["cycle"]) == (
        *("photo.png", "again.png", "pocket", "pocket"),
        1,
    )
    assert len(result["mean_shift"]) == len(result["contrast"]) == 3 and 0 < result["flip"] < 1


def test_several_autoencoders_and_cycles(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 64, 48)
    write_vae(tmp_path / "vae.safetensors")
    options = ("photo.png", "--vae", "vae.safetensors", "--vae", "pixels", "--cycles", "3")
    answer = eightfold("roundtrip", *options)
    assert answer.code == 0 and answer.is_calm
    lines = answer.out.splitlines()
    assert [line.split("  ")[1:3] for line in lines] == [
        [name, f"cycle {cycle}"] for name in ("vae.safetensors", "pixels") for cycle in (1, 2, 3)
    ]
    assert lines[-1].endswith("-> photo.roundtrip.png") and read_size(tmp_path / "photo.roundtrip.png")[0] == 3 * (64 + 6) + 6
    results = json.loads(read_metadata(tmp_path / "photo.roundtrip.png")["eightfold"])["results"]
    psnrs = [row["psnr"] for row in results if row["autoencoder"] == "vae.safetensors"]
    assert psnrs == sorted(psnrs, reverse=True) and len({*psnrs}) == 3
    assert [row["psnr"] for row in results if row["autoencoder"] == "pixels"] == [None] * 3
    printed = eightfold("roundtrip", *options, "--overwrite", "--json").results
    assert [{**row, "path": "photo.roundtrip.png"} for row in results] == printed


def test_a_folder_is_reported(eightfold: Any, folder: Path, tmp_path: Path) -> None:
    options = ("roundtrip", "in", "--vae", "pocket", "--vae", "pixels", "--cycles", "2", "--report", "out/r.html")
    answer = eightfold(*options)
    assert answer.code == 0 and answer.is_calm
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["r.csv", "r.html", "r.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]  # no sheets
    data = json.loads((tmp_path / "out" / "r.json").read_text())
    with open(tmp_path / "out" / "r.csv", newline="") as file:
        table = list(csv.DictReader(file))
    lines = answer.out.splitlines()
    assert lines[-1] == "-> out/r.html, out/r.csv, out/r.json" and len(lines) == 8 + 4 + 1
    for row, flat, line in zip(data["results"], table, lines, strict=False):
        psnr = "inf" if row["psnr"] is None else f"{row['psnr']:.2f}"
        assert line == (
            f"{row['source']}  {row['autoencoder']}  cycle {row['cycle']}  PSNR {psnr} dB, SSIM {row['ssim']:.4f}, FLIP {row['flip']:.4f}"
        )
        assert flat["source"] == row["source"] and flat["flip"] == repr(row["flip"]) and flat["ssim"] == repr(row["ssim"])
    assert [row["source"] for row in table[::4]] == ["in/a <x> \"y\" 'z'.png", "in/b.png"]
    assert lines[-2].startswith("mean of 2 pictures  pixels  cycle 2  PSNR inf dB")
    printed = eightfold(*options, "--overwrite", "--json").results
    assert printed == [{**row, "path": "out/r.html"} for row in data["results"]]


def test_a_bad_picture_leaves_the_others(eightfold: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "a.png").write_text("this is no picture")
    answer = eightfold("roundtrip", "in", "--report", "r.html", "--json")
    assert answer.code == 3 and answer.err.count("\n") == 1 and "in/a.png" in answer.err and "Hint:" in answer.err
    assert [result["source"] for result in answer.results if "psnr" in result] == ["in/a <x> \"y\" 'z'.png", "in/b.png"]
    data = json.loads((tmp_path / "r.json").read_text())
    assert len(data["results"]) == 2 and [failure["source"] for failure in data["failures"]] == ["in/a.png"]
    assert "in/a.png is not a picture" in (tmp_path / "r.html").read_text()


def test_without_any_good_picture_there_is_no_report(refuse: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("this is no picture")
    refuse("roundtrip", "bad.png", "--report", "r.html")


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--report", "r.pdf"), "a report is a page"),
        (("--report", "r.html", "--out", "sheets"), "--out sheets is for sheets"),
        (("--report", "there.html"), "there.csv exists already"),
        (("--report", "photo.png/r.html"), "is not a folder"),
        (("--cycles", "0"), "cycles 0: expected 1 to 1000"),
        (("--cycles", "2.5"), "not a whole number"),
        (("--vae", "pixels", "--vae", "pixels"), "named twice"),
        (("--vae", "a", "--vae", "b", "--vae", "c", "--space", "sd", "--space", "sdxl"), "--space is given 2 times for 3"),
        (("empty",), "empty has no picture in it"),
    ],
)
def test_refused_before_any_work(refuse: Any, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    write_photo(tmp_path / "photo.png", 8, 8)
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "empty").mkdir()
    assert words in refuse("roundtrip", "photo.png", *options)


def test_sheets_of_the_last_time_are_not_pictures(eightfold: Any, folder: Path) -> None:
    for _ in range(2):
        answer = eightfold("roundtrip", "in", "--vae", "pixels", "--out", "in", "--overwrite", "--json")
        assert answer.code == 0 and len(answer.results) == 2
