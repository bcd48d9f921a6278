"""generate --like and --noise-source, and what pictures say of themselves, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from eightfold.codec.pixels import read_metadata
from pocketfile import read_pixels, read_size, write_photo, write_vae

HOW = ("--size", "24x32", "--steps", "3", "--sampler", "euler-ancestral", "--seed", "5")
FOREIGN = (
    "a red cube\nNegative prompt: a ball\n"
    "Steps: 2, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4, Seed: 9, Size: 32x24, Model: dreamshaper, Clip skip: 2, RNG: CPU"
)


def write_foreign(path: Path, **texts: str) -> Path:
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_text(name, text)
    Image.new("RGB", (5, 4)).save(path, pnginfo=chunks)
    return path


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_the_same_picture_again(eightfold: Any, tmp_path: Path, ending: str) -> None:
    options = ("--negative", "a blue ball", "--guidance", "2.5", "--noise-source", "comfy:2/3", "--ignore-unknown")
    assert eightfold("generate", 'a red, zebra: "cube"\nSteps: 1, Seed: 2, Size: 3x4', *HOW, *options, "--out", f"x.{ending}").code == 0
    answer = eightfold("generate", "--like", f"x.{ending}", "--out", f"again.{ending}")
    assert answer.code == 0 and answer.is_calm, answer.err
    assert (tmp_path / f"again.{ending}").read_bytes() == (tmp_path / f"x.{ending}").read_bytes()


def test_one_of_several_is_made_again_alone(eightfold: Any, tmp_path: Path) -> None:
    assert eightfold("generate", "a red cube", *HOW, "--count", "3", "--out", "all").code == 0
    assert eightfold("generate", "--like", "all/a-red-cube-7.png").code == 0
    assert (tmp_path / "a-red-cube-7.png").read_bytes() == (tmp_path / "all" / "a-red-cube-7.png").read_bytes()
    assert eightfold("generate", "--like", "all/a-red-cube-5.png", "--count", "3", "--out", "more").code == 0
    assert all((tmp_path / "more" / path.name).read_bytes() == path.read_bytes() for path in (tmp_path / "all").iterdir())


def test_what_is_given_takes_its_place(eightfold: Any, tmp_path: Path) -> None:
    assert eightfold("generate", "a red cube", *HOW, "--out", "x.png").code == 0
    other = ("--seed", "0", "--steps", "2", "--size", "32x32")
    assert eightfold("generate", "a blue cone", "a green can", "--like", "x.png", *other).code == 0
    assert eightfold("generate", "a blue cone", *other, "--sampler", "euler-ancestral", "--out", "z.png").code == 0
    assert (tmp_path / "a-blue-cone-0.png").read_bytes() == (tmp_path / "z.png").read_bytes()
    assert read_size(tmp_path / "a-green-can-0.png") == (32, 32)


def test_a_picture_of_another_program(eightfold: Any, tmp_path: Path) -> None:
    write_foreign(tmp_path / "x.png", parameters=FOREIGN)
    answer = eightfold("generate", "--like", "x.png", "--sampler", "dpm++2m", "--out", "y.png")
    assert answer.code == 0
    warnings = [line.removeprefix("warning: x.png: not as it was: ") for line in answer.err.splitlines()[:-1]]
    assert any("clip skip 2" in line for line in warnings) and any("dreamshaper" in line for line in warnings)
    assert not any("sampler" in line for line in warnings)  # another was asked for
    record = json.loads(read_metadata(tmp_path / "y.png")["eightfold"])
    expected = {"prompt": "a red cube", "negative": "a ball", "steps": 2, "guidance": 4.0, "seed": 9, "width": 32, "height": 24}
    assert expected.items() <= record.items() and record["noise_source"] == "a1111"
    answer = eightfold("generate", "--like", "x.png", "--grid", "karras", "--sampler", "dpm++2m", "--out", "z.png", "--json")
    (result,) = answer.results
    assert result["like"] == "x.png" and [text.split()[0] for text in result["missed"]] == ["clip", "model"]
    assert read_pixels(tmp_path / "z.png").shape == (24, 32, 3)


def test_other_weights_are_said(eightfold: Any, tmp_path: Path) -> None:
    assert eightfold("generate", "a red cube", *HOW, "--out", "x.png").code == 0
    picture = read_metadata(tmp_path / "x.png")
    record = json.loads(picture["eightfold"]) | {"fingerprint": "f" * 64, "torch": "0.1"}
    write_foreign(tmp_path / "y.png", eightfold=json.dumps(record))
    answer = eightfold("generate", "--like", "y.png", "--out", "z.png")
    assert answer.code == 0 and "not as it was: weights " in answer.err and "not ffffffffffff" in answer.err and "not 0.1" in answer.err


def test_the_numbers_of_the_picture_are_taken(eightfold: Any, tmp_path: Path) -> None:
    assert eightfold("generate", "a red cube", *HOW, "--dtype", "bfloat16", "--out", "x.png").code == 0
    answer = eightfold("generate", "--like", "x.png", "--out", "y.png")
    assert answer.code == 0 and "not as it was" not in answer.err
    assert np.array_equal(read_pixels(tmp_path / "x.png"), read_pixels(tmp_path / "y.png"))
    answer = eightfold("generate", "--like", "x.png", "--dtype", "float32", "--out", "z.png")
    assert "dtype float32, not bfloat16" in answer.err


def test_pictures_that_cannot_be_made_again(refuse: Any, tmp_path: Path, unloadable: None) -> None:
    write_photo(tmp_path / "photo.jpg", 16, 16)
    assert "does not say how it was made" in refuse("generate", "--like", "photo.jpg")
    assert "not there" in refuse("generate", "--like", "nothing.png")
    write_foreign(tmp_path / "graph.png", prompt="{" * 9)
    assert "no JSON" in refuse("generate", "--like", "graph.png")
    write_vae(tmp_path / "vae.safetensors")
    assert "vae.safetensors" in refuse("generate", "--like", "vae.safetensors")


def test_noise_of_other_programs(eightfold: Any, tmp_path: Path) -> None:
    pictures: set[bytes] = set()
    for source in ("ours", "a1111:gpu", "comfy:2/2"):
        assert eightfold("generate", "a red cube", *HOW, "--noise-source", source, "--out", "x.png", "--overwrite").code == 0
        pictures.add(read_pixels(tmp_path / "x.png").tobytes())
        assert json.loads(read_metadata(tmp_path / "x.png")["eightfold"])["noise_source"] == source
    assert len(pictures) == 3


def test_an_unknown_noise_source(refuse: Any, unloadable: None) -> None:
    assert "did you mean comfy" in refuse("generate", "a red cube", "--noise-source", "comfi")
    assert "ours stands alone" in refuse("generate", "a red cube", "--noise-source", "ours:gpu")


def test_a_jpeg_carries_both_texts(eightfold: Any, tmp_path: Path) -> None:
    assert eightfold("generate", "a red cube", *HOW, "--out", "x.jpg").code == 0
    prompt, settings = read_metadata(tmp_path / "x.jpg")["parameters"].split("\n")
    assert prompt == "a red cube"
    assert settings.startswith("Steps: 3, Sampler: Euler a, Schedule type: ") and ", Seed: 5, Size: 24x32, Model hash: " in settings
    facts = eightfold("info", "x.jpg", "--json").results
    assert facts["made with"]["prompt"] == "a red cube" and "metadata" not in facts
    assert eightfold("generate", "--like", "x.jpg", "--out", "y.jpg").code == 0
    assert np.array_equal(read_pixels(tmp_path / "x.jpg"), read_pixels(tmp_path / "y.jpg"))


def test_info_of_other_programs(eightfold: Any, tmp_path: Path) -> None:
    write_foreign(tmp_path / "x.png", parameters=FOREIGN)
    made = eightfold("info", "x.png", "--json").results["made with"]
    expected = {"source": "a1111", "prompt": "a red cube", "negative": "a ball", "size": [32, 24], "seed": 9, "sampler": "DPM++ 2M"}
    assert expected.items() <= made.items()
    out = eightfold("info", "x.png").out
    assert "made with\n" in out and "  sampler       DPM++ 2M" in out
    graph = {"1": {"class_type": "KSampler", "inputs": {"seed": 3, "steps": 4, "sampler_name": "lcm", "positive": ["2", 0]}}}
    write_foreign(tmp_path / "y.png", prompt=json.dumps(graph), workflow=json.dumps({"nodes": [], "padding": "x" * 5000}))
    facts = eightfold("info", "y.png", "--json").results
    assert facts["made with"]["source"] == "comfyui" and facts["made with"]["seed"] == 3
    assert len(facts["metadata"]["workflow"]) > 5000  # nothing is lost
    assert "characters)" in eightfold("info", "y.png").out and len(eightfold("info", "y.png").out) < 4000


@pytest.mark.parametrize(
    "text", ["{", "[" * 100_000, "{}", '{"1": 2}', "\x00", '{"1": {"class_type": "\x1b[31m", "inputs": {"a": ["1", 0]}}}']
)
def test_info_of_damaged_texts(eightfold: Any, tmp_path: Path, text: str) -> None:
    write_foreign(tmp_path / "x.png", prompt=text)
    answer = eightfold("info", "x.png", "--json")
    assert answer.code == 0 and answer.err == "" and answer.results["width"] == 5
    assert answer.results["made with"].startswith("not known: ")
    out = eightfold("info", "x.png").out
    assert "not known" in out and "\x1b" not in out


def test_a_picture_that_began_from_another(eightfold: Any, refuse: Any, tmp_path: Path) -> None:
    """It is asked for, never opened because metadata name it."""
    assert eightfold("generate", "a blue cone", "--size", "32x24", "--steps", "2", "--out", "cone.png").code == 0
    how = (
        "--start",
        "cone.png",
        "--strength",
        "0.6",
        "--outpaint",
        "8,0,0,8",
        "--feather",
        "2",
        "--variation",
        "0.2",
        "--variation-seed",
        "3",
    )
    assert eightfold("generate", "a red cube", "--steps", "4", *how, "--noise-source", "a1111", "--out", "x.png").code == 0
    assert eightfold("generate", "--like", "x.png", "--start", "cone.png", "--out", "again.png").code == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "x.png").read_bytes()
    line = refuse("generate", "--like", "x.png", "--out", "y.png")
    assert "made with the start cone.png" in line and "--start FILE" in line


def test_a_start_for_a_picture_of_another_program(eightfold: Any, tmp_path: Path) -> None:
    assert eightfold("generate", "a blue cone", "--size", "32x24", "--steps", "2", "--out", "cone.png").code == 0
    write_foreign(tmp_path / "x.png", parameters=FOREIGN + ", Denoising strength: 0.5, Variation seed: 4, Variation seed strength: 0.1")
    answer = eightfold("generate", "--like", "x.png", "--out", "y.png")
    assert answer.code == 0 and "denoising strength 0.5" in answer.err
    answer = eightfold("generate", "--like", "x.png", "--start", "cone.png", "--out", "z.png")
    assert answer.code == 0 and "denoising" not in answer.err
    record = json.loads(read_metadata(tmp_path / "z.png")["eightfold"])
    assert (record["strength"], record["start"], record["variation"], record["variation_seed"]) == (0.5, "cone.png", 0.1, 4)


def test_two_passes_again(eightfold: Any, tmp_path: Path) -> None:
    assert eightfold("generate", "a red cube", *HOW, "--enlarge", "2", "--enlarge-strength", "0.7", "--out", "x.png").code == 0
    assert eightfold("generate", "--like", "x.png", "--out", "y.png").code == 0
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()
