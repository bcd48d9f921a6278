"""eightfold noise and eightfold walk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eightfold.codec.pixels import read_metadata
from pocketfile import read_pixels, read_size, write_photo

SMALL = ("--size", "32x24", "--steps", "1")


def read_frames(path: Path) -> list[np.ndarray]:
    frames = []
    with Image.open(path) as image:
        for index in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
    return frames


def test_noise_is_a_strip(eightfold: Any, tmp_path: Path) -> None:
    pixels = read_pixels(write_photo(tmp_path / "photo.png", 45, 30))
    answer = eightfold("noise", "photo.png", "--at", "0, 0.5,1", "--json")
    assert answer.code == 0 and answer.err == ""
    (result,) = answer.results
    assert result.items() >= {"source": "photo.png", "path": "photo.noise.png", "at": [0.0, 0.5, 1.0], "notes": []}.items()
    assert result["dtype"] == "float32" and "no model overflows it" in result["placement"]
    strip = read_pixels(tmp_path / "photo.noise.png")
    assert strip.shape[1] == 4 * (45 + 6) + 6
    panels = [strip[6:36, 6 + index * 51 :][:, :45] for index in range(4)]
    assert np.array_equal(panels[0], pixels)
    assert len({panel.tobytes() for panel in panels}) == 4


def test_noise_by_seed(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 16, 16)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert eightfold("noise", "photo.png", "--seed", seed, "--out", f"{name}.png").code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert not np.array_equal(read_pixels(tmp_path / "a.png"), read_pixels(tmp_path / "c.png"))


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize(
    "options", [("--at", "0.2,x"), ("--at", "1.5"), ("--at", "nan"), ("--at", ""), ("--seed", "-1"), ("--seed", str(2**64))]
)
def test_noise_refuses_impossible_numbers(refuse: Any, tmp_path: Path, options: tuple[str, str]) -> None:
    write_photo(tmp_path / "photo.png", 8, 8)
    refuse("noise", "photo.png", *options)


def test_walk_between_pictures(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "one.png", 45, 30)
    write_photo(tmp_path / "two.png", 20, 50, seed=1)
    answer = eightfold("walk", "one.png", "two.png", "--frames", "4")
    assert answer.code == 0 and answer.out == "one-to-two.webp\n" and answer.is_calm
    frames = read_frames(tmp_path / "one-to-two.webp")
    assert len(frames) == 6  # there and back
    assert {frame.shape for frame in frames} == {(30, 90, 3)}
    assert eightfold("encode", "one.png").code == 0
    assert eightfold("decode", "one.latent.safetensors", "--out", "back.png").code == 0
    back = read_pixels(tmp_path / "back.png").astype(int)
    assert np.abs(frames[0][:, :45] - back).max() <= 1  # through the normalisation and back
    assert np.abs(frames[0][:, 45:] - back).max() <= 1
    assert np.abs(frames[3][:, :45] - frames[3][:, 45:]).max() <= 1  # at the other end the two meet again
    assert np.abs(frames[1][:, 45:] - (2 * frames[0] + frames[3])[:, 45:] / 3).max() <= 1  # the cross-fade is linear in pixels
    assert np.array_equal(frames[1], frames[5]) and np.array_equal(frames[2], frames[4])
    record = json.loads(read_metadata(tmp_path / "one-to-two.webp")["eightfold"])
    assert record["walk"] == ["one.png", "two.png"] and record["frames"] == 4 and record["space"] == "pocket" and record["decoder"]
    assert record["dtype"] == "float32" and "no model overflows it" in record["placement"] and record["notes"] == []


def test_walk_between_prompts(eightfold: Any, tmp_path: Path) -> None:
    answer = eightfold("walk", "a red cube", "a blue ball", "--frames", "3", "--seed", "5", *SMALL)
    assert answer.code == 0 and answer.out == "a-red-cube-to-a-blue-ball.webp\n"
    frames = read_frames(tmp_path / "a-red-cube-to-a-blue-ball.webp")
    assert len(frames) == 4 and {frame.shape for frame in frames} == {(24, 64, 3)}
    for prompt, frame in (("a red cube", frames[0]), ("a blue ball", frames[2])):
        assert eightfold("generate", prompt, "--seed", "5", "--out", f"{prompt}.png", *SMALL).code == 0
        picture = read_pixels(tmp_path / f"{prompt}.png")
        assert np.array_equal(frame[:, :32], picture)
        assert np.array_equal(frame[:, 32:], picture)
    record = json.loads(read_metadata(tmp_path / "a-red-cube-to-a-blue-ball.webp")["eightfold"])
    assert record["walk"] == ["a red cube", "a blue ball"] and record["seed"] == 5 and record["sampler"] and record["fingerprint"]
    assert {"eightfold", "torch", "python"} <= record.keys()


def test_walk_as_gif(eightfold: Any, tmp_path: Path) -> None:
    answer = eightfold("walk", "a red cube", "a blue ball", "--frames", "2", "--milliseconds", "70", "--out", "w.gif", "--json", *SMALL)
    assert answer.code == 0
    (result,) = answer.results
    assert result.items() >= {"start": "a red cube", "end": "a blue ball", "frames": 2, "path": "w.gif", "notes": []}.items()
    assert result["dtype"] == "float32" and "no model overflows it" in result["placement"]
    assert read_size(tmp_path / "w.gif") == (64, 24)
    with Image.open(tmp_path / "w.gif") as image:
        assert image.n_frames == 2 and image.info["duration"] == 70


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize(
    "options",
    [
        ("--frames", "1"),
        ("--frames", "1001"),
        ("--milliseconds", "0"),
        ("--count", "2"),
        ("--out", "w.png"),
        ("--out", "w.mp4"),
        ("--seed", "-1"),
    ],
)
def test_walk_refuses_impossible_numbers(refuse: Any, options: tuple[str, str]) -> None:
    refuse("walk", "a red cube", "a blue ball", *options)


@pytest.mark.usefixtures("unloadable")
def test_walk_from_a_picture_to_a_prompt(refuse: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "one.png", 8, 8)
    assert "'a red cube'" in refuse("walk", "one.png", "a red cube")


def test_walk_names_a_missing_picture(refuse: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "one.png", 8, 8)
    assert "gone.jpg is not there" in refuse("walk", "one.png", "gone.jpg")


def test_a_walk_between_pictures_takes_no_sampling(refuse: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "one.png", 8, 8)
    write_photo(tmp_path / "two.png", 8, 8)
    assert "are for prompts" in refuse("walk", "one.png", "two.png", "--steps", "5")


def test_walk_checks_both_prompts(refuse: Any) -> None:
    assert "zebra" in refuse("walk", "a red cube", "a zebra", *SMALL)


def test_a_prompt_may_be_longer_than_a_file_name(refuse: Any) -> None:
    assert "300 known words" in refuse("walk", "a red cube", " ".join(["cube"] * 300), *SMALL)
