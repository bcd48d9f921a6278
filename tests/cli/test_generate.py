"""eightfold generate: prompts, names, sizes, films, metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eightfold.codec.pixels import Picture, read_metadata
from eightfold.core.errors import OutputError
from eightfold.core.versions import read_versions
from eightfold.pipelines.bundle import load
from pocketfile import POCKET_FILE, read_pixels, read_size, write_vae

SMALL = ("--size", "32x32", "--steps", "2")


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_argument_is_a_prompt(eightfold: Any, tmp_path: Path) -> None:
    answer = eightfold("generate", "a red cube", "a small blue ball", *SMALL)
    assert answer.code == 0 and answer.is_calm
    assert answer.out.splitlines() == ["a-red-cube-0.png", "a-small-blue-ball-0.png"]
    assert list_names(tmp_path) == ["a-red-cube-0.png", "a-small-blue-ball-0.png"]
    assert not np.array_equal(read_pixels(tmp_path / "a-red-cube-0.png"), read_pixels(tmp_path / "a-small-blue-ball-0.png"))


def test_prompts_come_from_a_file_too(eightfold: Any, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a green cone\n\n  a pink can \n")
    answer = eightfold("generate", "a red cube", "--prompts", "prompts.txt", "--out", "new/folder", *SMALL)
    assert answer.code == 0
    assert list_names(tmp_path / "new" / "folder") == ["a-green-cone-0.png", "a-pink-can-0.png", "a-red-cube-0.png"]


def test_prompts_of_one_name_are_told_apart(eightfold: Any, tmp_path: Path) -> None:
    assert eightfold("generate", "a red cube", "A red cube!", *SMALL).code == 0
    assert list_names(tmp_path) == ["a-red-cube-0.png", "a-red-cube-2-0.png"]


@pytest.mark.parametrize("sampler", ["dpm++2m", "euler-ancestral"])
def test_pictures_of_a_count_are_those_of_their_seeds(eightfold: Any, tmp_path: Path, sampler: str) -> None:
    how = ("--size", "40x24", "--steps", "3", "--sampler", sampler)
    assert eightfold("generate", "a red cube", "--count", "4", "--seed", "1", "--out", "all", *how).code == 0
    assert list_names(tmp_path / "all") == [f"a-red-cube-{seed}.png" for seed in (1, 2, 3, 4)]
    different = set()
    for seed in (1, 2, 3, 4):
        assert eightfold("generate", "a red cube", "--seed", seed, "--out", "alone", *how).code == 0
        name = f"a-red-cube-{seed}.png"
        pixels = read_pixels(tmp_path / "alone" / name)
        assert np.array_equal(pixels, read_pixels(tmp_path / "all" / name))
        different.add(pixels.tobytes())
    assert len(different) == 4


def test_a_repeated_command_gives_the_same_picture(eightfold: Any, tmp_path: Path) -> None:
    for out in ("one.png", "two.png"):
        assert eightfold("generate", "a red cube", "--sampler", "ddpm", "--seed", "7", "--out", out, *SMALL).code == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "euler", "euler-ancestral", "heun", "dpm++2m"])
def test_samplers_by_name(eightfold: Any, tmp_path: Path, sampler: str) -> None:
    grid = {"heun": "karras", "ddim": "uniform"}.get(sampler, "trailing")
    answer = eightfold("generate", "a red cube", "--sampler", sampler, "--grid", grid, "--out", "x.png", *SMALL)
    assert answer.code == 0, answer.err
    record = json.loads(read_metadata(tmp_path / "x.png")["eightfold"])
    assert (record["sampler"], record["grid"]) == (sampler, grid)


def test_negative_and_guidance_do_what_they_say(eightfold: Any, tmp_path: Path) -> None:
    for name, options in {
        "plain": (),
        "negative": ("--negative", "a blue ball"),
        "unguided": ("--guidance", "1"),
    }.items():
        assert eightfold("generate", "a red cube", "--out", f"{name}.png", *SMALL, *options).code == 0
    pictures = {path.stem: read_pixels(path).tobytes() for path in tmp_path.iterdir()}
    assert len(set(pictures.values())) == 3


def test_a_negative_prompt_without_guidance_is_refused(refuse: Any) -> None:
    assert "no effect at guidance 1" in refuse("generate", "a red cube", "--guidance", "1", "--negative", "a blue ball", *SMALL)


@pytest.mark.parametrize("size", [(64, 32), (33, 47), (1, 1), (7, 65)])
def test_size_is_width_by_height_and_exact(eightfold: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    assert eightfold("generate", "a red cube", "--size", f"{size[0]}x{size[1]}", "--steps", "1", "--out", "x.png").code == 0
    assert read_size(tmp_path / "x.png") == size


def test_film_as_a_strip(eightfold: Any, tmp_path: Path) -> None:
    answer = eightfold("generate", "a red cube", "a blue cone", "--size", "32x24", "--steps", "3", "--count", "2", "--film", "film.png")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "film.png"
    margin = 6
    assert read_size(tmp_path / "film.png") == (3 * (32 + margin) + margin, 4 * (24 + margin) + margin)  # a row a picture, a column a step
    film, last = read_pixels(tmp_path / "film.png"), read_pixels(tmp_path / "a-red-cube-0.png")
    assert np.array_equal(film[margin : margin + 24, 2 * (32 + margin) + margin :][:, :32], last)  # the last estimate is the picture


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_film_as_an_animation(eightfold: Any, tmp_path: Path, ending: str) -> None:
    assert eightfold("generate", "a red cube", "--size", "32x24", "--steps", "3", "--count", "2", "--film", f"film.{ending}").code == 0
    with Image.open(tmp_path / f"film.{ending}") as film:
        assert (film.n_frames, film.size) == (3, (64, 24))  # pictures side by side
        film.seek(2)
        frame = np.asarray(film.convert("RGB"))
    if ending == "webp":  # lossless
        assert np.array_equal(frame[:, :32], read_pixels(tmp_path / "a-red-cube-0.png"))
        assert np.array_equal(frame[:, 32:], read_pixels(tmp_path / "a-red-cube-1.png"))
    assert json.loads(read_metadata(tmp_path / f"film.{ending}")["eightfold"])["prompt"] == "a red cube"


@pytest.mark.parametrize("name", ["one.png", "deep/two.jpg", "three.webp"])
def test_out_names_one_file(eightfold: Any, tmp_path: Path, name: str) -> None:
    answer = eightfold("generate", "a red cube", "--out", name, *SMALL)
    assert answer.code == 0 and answer.out == f"{name}\n"
    assert read_size(tmp_path / name) == (32, 32)
    assert json.loads(read_metadata(tmp_path / name)["eightfold"])["prompt"] == "a red cube"


def test_overwrite_replaces(eightfold: Any, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("mine")
    assert eightfold("generate", "a red cube", "--out", "x.png", "--overwrite", *SMALL).code == 0
    assert read_size(tmp_path / "x.png") == (32, 32)
    assert list_names(tmp_path) == ["x.png"]


def test_json_is_all_there_is_on_standard_output(eightfold: Any, tmp_path: Path) -> None:
    answer = eightfold("generate", "a red cube", "--count", "2", "--film", "f.png", "--json", *SMALL)
    assert answer.code == 0 and answer.err == ""
    pictures, film = answer.results[:2], answer.results[2]
    assert [(one["prompt"], one["seed"], one["path"]) for one in pictures] == [
        ("a red cube", 0, "a-red-cube-0.png"),
        ("a red cube", 1, "a-red-cube-1.png"),
    ]
    assert pictures[0]["device"] and pictures[0]["dtype"] == "float32" and "no model overflows it" in pictures[0]["placement"]
    assert pictures[0]["notes"] == []
    assert film == {"film": "f.png"}


def test_unknown_words_are_passed_by_on_request(eightfold: Any, tmp_path: Path) -> None:
    assert eightfold("generate", "a red zebra", "--ignore-unknown", "--out", "x.png", *SMALL).code == 0
    assert read_size(tmp_path / "x.png") == (32, 32)


def test_pictures_carry_how_they_were_made(eightfold: Any, tmp_path: Path) -> None:
    options = ("--negative", "a ball", "--sampler", "ddim", "--eta", "0.5", "--guidance", "2.5", "--grid", "uniform")
    assert eightfold("generate", "a red cube", "--seed", "3", "--count", "2", *options, *SMALL).code == 0
    record = json.loads(read_metadata(tmp_path / "a-red-cube-4.png")["eightfold"])
    expected = {"prompt": "a red cube", "negative": "a ball", "width": 32, "height": 32, "steps": 2, "sampler": "ddim", "grid": "uniform"}
    expected |= {"guidance": 2.5, "eta": 0.5, "seed": 4, "count": 1, "noise_source": "ours", "model": "pocket", "dtype": "float32"}
    expected |= read_versions()
    expected |= {"start": None, "strength": 1.0, "mask": None, "feather": 0, "outpaint": [0, 0, 0, 0], "only_masked": False, "raw": False}
    expected |= {"variation_seed": 0, "variation": 0.0, "enlarge": 1.0, "enlarge_strength": 0.6, "enlarge_model": None}
    expected |= {"rescale": 0.0, "interval": [0.0, 1.0], "controls": [], "handover": None, "picture_guidance": None}
    expected |= {"denoiser_kernels": "torch, stage by stage"}
    model = load("pocket")
    expected |= {"vae": "pocket", "decoder_dtype": "float32", "dtype_reason": model.placement.reason, "notes": []}
    assert record == expected | {"fingerprint": model.fingerprint, "decoder": model.codec.decoder_fingerprint}
    assert len(model.fingerprint) == len(model.codec.decoder_fingerprint) == 64


def test_model_and_autoencoder_from_files(eightfold: Any, tmp_path: Path) -> None:
    vae = write_vae(tmp_path / "vae.safetensors")
    assert eightfold("generate", "a red cube", "--out", "name.png", *SMALL).code == 0
    assert eightfold("generate", "a red cube", "--out", "file.png", "--model", POCKET_FILE, "--vae", vae, *SMALL).code == 0
    assert np.array_equal(read_pixels(tmp_path / "name.png"), read_pixels(tmp_path / "file.png"))


def break_second_save(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    save, calls = Picture.save, []

    def save_once(self: Picture, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
        calls.append(path)
        if len(calls) == 2:
            raise error
        return save(self, path, overwrite=overwrite)

    monkeypatch.setattr(Picture, "save", save_once)


def test_a_picture_that_cannot_be_written_leaves_those_before_it(eightfold: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_second_save(monkeypatch, OutputError("cannot write it: No space left on device", hint="check the space left"))
    answer = eightfold("generate", "a red cube", "a blue cone", "a green can", "--json", *SMALL)
    assert answer.code == 3
    kept, error = answer.err.splitlines()
    assert error == "error: cannot write it: No space left on device. Hint: check the space left" and "the latent is kept" in kept
    assert list_names(tmp_path) == ["a-blue-cone-0.latent.safetensors", "a-red-cube-0.png"]
    assert read_size(tmp_path / "a-red-cube-0.png") == (32, 32)
    first, failure = answer.results
    assert first["path"] == "a-red-cube-0.png" and "No space left" in failure["error"]


def test_cancelling_leaves_what_is_finished(eightfold: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_second_save(monkeypatch, KeyboardInterrupt())
    answer = eightfold("generate", "a red cube", "a blue cone", *SMALL)
    assert answer.code == 130
    assert answer.err.splitlines()[1:] == ["cancelled; what was finished is kept"]
    assert list_names(tmp_path) == ["a-blue-cone-0.latent.safetensors", "a-red-cube-0.png"]
