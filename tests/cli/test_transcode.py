"""eightfold encode, decode and roundtrip."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eightfold.autoencoders.tiny import TinyAutoencoder
from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.latentfile import read_latent
from eightfold.codec.pixels import read_metadata
from eightfold.specs.network import TinyConfig
from pocketfile import build_latent, read_pixels, read_size, write_photo, write_vae
from weights import randomise

SIZES = {"photo": (451, 300), "strip": (129, 7), "dot": (1, 1)}


def test_any_size_comes_back(eightfold: Any, tmp_path: Path) -> None:
    for name, (width, height) in SIZES.items():
        write_photo(tmp_path / f"{name}.png", width, height)
    answer = eightfold("encode", *(f"{name}.png" for name in SIZES), "--json")
    assert answer.code == 0 and answer.err == ""
    shapes = {result["source"]: result["shape"] for result in answer.results}
    assert shapes == {"photo.png": [4, 38, 57], "strip.png": [4, 1, 17], "dot.png": [4, 1, 1]}
    assert {result["space"] for result in answer.results} == {"pocket"}

    answer = eightfold("decode", *(f"{name}.latent.safetensors" for name in SIZES), "--out", "back")
    assert answer.code == 0 and answer.is_calm
    assert {path.stem: read_size(path) for path in (tmp_path / "back").iterdir()} == SIZES
    assert answer.out.splitlines()[0] == "back/photo.png  451x300"

    answer = eightfold("roundtrip", *(f"{name}.png" for name in SIZES), "--json")
    assert answer.code == 0 and answer.err == ""
    assert {result["source"]: (result["width"], result["height"]) for result in answer.results} == {f"{n}.png": s for n, s in SIZES.items()}
    for result in answer.results:
        assert 0 < result["psnr"] < 100 and -1 <= result["ssim"] <= 1
    sheet = read_pixels(tmp_path / "photo.roundtrip.png")
    assert np.array_equal(sheet[6:306, 6:457], read_pixels(tmp_path / "photo.png"))
    assert np.array_equal(sheet[6:306, 463:914], read_pixels(tmp_path / "back" / "photo.png"))


def test_lines_say_what_came_out(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 24, 16)
    assert eightfold("encode", "photo.png").out == "photo.latent.safetensors  4x2x3 (pocket) of 24x16, mode\n"
    line = eightfold("roundtrip", "photo.png").out
    assert line.startswith("photo.png  PSNR ") and " dB, SSIM " in line and line.endswith("-> photo.roundtrip.png\n")


def test_pictures_are_taken_upright(eightfold: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    pixels = read_pixels(write_photo(tmp_path / "plain.png", 40, 24))
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    answer = eightfold("encode", "turned.jpg")
    assert answer.code == 0 and answer.out.endswith("4x5x3 (pocket) of 24x40, mode (EXIF orientation 6 applied)\n")
    assert eightfold("decode", "turned.latent.safetensors").code == 0
    assert read_size(tmp_path / "turned.png") == (24, 40)


def test_alpha_is_put_back(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "clear.png", 21, 13, alpha=True)
    assert eightfold("encode", "clear.png").code == 0
    assert eightfold("decode", "clear.latent.safetensors", "--out", "back.png").code == 0
    back = read_pixels(tmp_path / "back.png")
    assert back.shape == (13, 21, 4)
    assert np.array_equal(back[..., 3], read_pixels(tmp_path / "clear.png")[..., 3])
    answer = eightfold("decode", "clear.latent.safetensors", "--out", "back.jpg")
    assert answer.out == "back.jpg  21x13 (JPEG has no alpha: laid on white)\n"


def test_readings(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 24, 24)
    for name, options in {
        "usual": (),
        "mode": ("--mode",),
        "one": ("--sample", "--seed", "1"),
        "again": ("--sample", "--seed", "1"),
        "two": ("--sample", "--seed", "2"),
    }.items():
        assert eightfold("encode", "photo.png", "--out", f"{name}.safetensors", *options).code == 0
    latents = {path.stem: read_latent(path) for path in tmp_path.glob("*.safetensors")}
    assert torch.equal(latents["usual"].raw, latents["mode"].raw)
    assert torch.equal(latents["one"].raw, latents["again"].raw)
    assert not torch.equal(latents["one"].raw, latents["two"].raw)
    assert not torch.equal(latents["one"].raw, latents["mode"].raw)
    assert (latents["one"].reading, latents["one"].seed, latents["mode"].reading, latents["mode"].seed) == ("sample", 1, "mode", None)


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize("verb", ["encode", "roundtrip"])
def test_sample_and_mode_exclude_each_other(refuse: Any, tmp_path: Path, verb: str) -> None:
    write_photo(tmp_path / "photo.png", 8, 8)
    assert "--sample and --mode" in refuse(verb, "photo.png", "--sample", "--mode")
    assert "seed -1" in refuse(verb, "photo.png", "--sample", "--seed", "-1")


def test_one_bad_among_good(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "good.png", 16, 16)
    write_photo(tmp_path / "fine.png", 16, 16, seed=1)
    (tmp_path / "bad.png").write_text("this is no picture")
    answer = eightfold("encode", "good.png", "bad.png", "fine.png", "--json")
    assert answer.code == 3
    assert answer.err.count("\n") == 1 and "bad.png" in answer.err and "Hint:" in answer.err
    assert [result["source"] for result in answer.results] == ["good.png", "bad.png", "fine.png"]
    assert "error" in answer.results[1] and answer.results[1]["hint"]
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["fine.latent.safetensors", "good.latent.safetensors"]

    (tmp_path / "bad.latent.safetensors").write_bytes(b"junk")
    answer = eightfold("decode", *(f"{name}.latent.safetensors" for name in ("good", "bad", "fine")), "--out", "back")
    assert answer.code == 3 and sorted(path.name for path in (tmp_path / "back").iterdir()) == ["fine.png", "good.png"]
    answer = eightfold("roundtrip", "good.png", "bad.png", "fine.png", "--out", "trips")
    assert answer.code == 3 and len(list((tmp_path / "trips").iterdir())) == 2


def test_all_bad(eightfold: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("this is no picture")
    answer = eightfold("encode", "bad.png", "missing.png", "--json")
    assert answer.code == 2
    assert answer.err.count("\n") == 2 and answer.err.count("Hint:") == 2
    assert len(answer.results) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bad.png"]


def test_autoencoder_from_a_file(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 24, 16)
    write_vae(tmp_path / "vae.safetensors")
    assert eightfold("encode", "photo.png", "--out", "a.safetensors").code == 0
    assert eightfold("encode", "photo.png", "--out", "b.safetensors", "--vae", "vae.safetensors").code == 0
    first, second = read_latent(tmp_path / "a.safetensors"), read_latent(tmp_path / "b.safetensors")
    assert torch.equal(first.raw, second.raw)
    assert (first.encoder, first.decoder) == (second.encoder, second.decoder) and len(first.encoder) == 64


def test_a_latent_of_another_space(refuse: Any, eightfold: Any, tmp_path: Path) -> None:
    build_latent("sd").save(tmp_path / "foreign.latent.safetensors")
    line = refuse("decode", "foreign.latent.safetensors")
    assert "space sd" in line and "space pocket" in line and "--force" in line
    answer = eightfold("decode", "foreign.latent.safetensors", "--force")
    assert (answer.code, answer.out) == (0, "foreign.png  16x24\n")
    warning, ran = answer.err.splitlines()
    assert warning == "warning: foreign.latent.safetensors: a latent of space sd decoded by force in space pocket"
    assert ran.startswith("ran on cpu")
    assert read_size(tmp_path / "foreign.png") == (16, 24)
    assert json.loads(read_metadata(tmp_path / "foreign.png")["eightfold"])["forced"] is True


def test_force_does_not_make_channels_fit(refuse: Any, tmp_path: Path) -> None:
    build_latent("another", channels=16).save(tmp_path / "wide.latent.safetensors")
    for options, tells in (((), False), (("--force",), True)):
        line = refuse("decode", "wide.latent.safetensors", *options)
        assert "another (16 channels)" in line and "pocket (4)" in line
        assert ("--force cannot make its channels fit" in line) is tells


def test_a_latent_of_other_weights(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 24, 16)
    assert eightfold("encode", "photo.png").code == 0
    own = read_latent(tmp_path / "photo.latent.safetensors")
    replace(own, encoder="a" * 64).save(tmp_path / "other.latent.safetensors")
    answer = eightfold("decode", "photo.latent.safetensors", "other.latent.safetensors", "--out", "back", "--json")
    doubt = "encoded by other weights (aaaaaaaaaaaa)"
    assert answer.code == 0 and answer.err == f"warning: other.latent.safetensors: {doubt}\n"
    assert [result["warnings"] for result in answer.results] == [[], [doubt]]
    record = json.loads(read_metadata(tmp_path / "back" / "other.png")["eightfold"])
    assert (record["encoder"], record["forced"]) == ("a" * 64, False)


def test_files_of_one_name_are_refused(refuse: Any, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_photo(tmp_path / folder / "photo.png", 8, 8)
    assert "photo.latent.safetensors" in refuse("encode", "a/photo.png", "b/photo.png")


def write_tiny(path: Path) -> Path:
    """A tiny autoencoder: it may be of space sd or of space sdxl."""
    write_safetensors(path, randomise(TinyAutoencoder(TinyConfig(channels=4)), seed=0).state_dict(), {}, overwrite=False)
    return path


def test_weights_that_fit_several_spaces(eightfold: Any, refuse: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 24, 16)
    write_tiny(tmp_path / "tiny.safetensors")
    line = refuse("encode", "photo.png", "--vae", "tiny.safetensors")
    assert "claimed by sd, sdxl" in line and "--space NAME" in line
    assert "expected space flux1" in refuse("encode", "photo.png", "--vae", "tiny.safetensors", "--space", "flux1")
    assert "unknown space 'sdx'" in refuse("encode", "photo.png", "--vae", "tiny.safetensors", "--space", "sdx")
    naming = ("--vae", "tiny.safetensors", "--space", "sdxl")
    (answer,) = eightfold("encode", "photo.png", *naming, "--json").results
    assert (answer["space"], answer["shape"], answer["dtype"]) == ("sdxl", [4, 2, 3], "float32")
    assert eightfold("decode", "photo.latent.safetensors", *naming, "--out", "back.png").code == 0
    assert read_size(tmp_path / "back.png") == (24, 16)
    assert "space sdxl" in refuse("decode", "photo.latent.safetensors", "--vae", "tiny.safetensors", "--space", "sd", "--out", "b.png")
    assert eightfold("roundtrip", "photo.png", *naming).code == 0


def test_pixels_need_no_weights(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 21, 13)
    (answer,) = eightfold("roundtrip", "photo.png", "--vae", "pixels", "--json").results
    assert answer["psnr"] is None and answer["ssim"] == 1


def test_results_say_in_which_numbers_and_why(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 16, 16)
    (plain,) = eightfold("encode", "photo.png", "--out", "a.safetensors", "--json").results
    assert plain["dtype"] == "float32" and "no model overflows it" in plain["placement"]
    (narrow,) = eightfold("encode", "photo.png", "--out", "b.safetensors", "--dtype", "bfloat16", "--json").results
    assert narrow["dtype"] == "bfloat16" and "bfloat16: asked for" in narrow["placement"]
    assert "asked for" in read_latent(tmp_path / "b.safetensors").reason
    assert eightfold("info", "b.safetensors", "--json").results["dtype"] == "bfloat16"


@pytest.mark.parametrize("verb", ["encode", "roundtrip", "noise"])
def test_each_verb_says_it_once(eightfold: Any, tmp_path: Path, verb: str) -> None:
    for name in ("one", "two"):
        write_photo(tmp_path / f"{name}.png", 16, 16)
    names = ("one.png",) if verb == "noise" else ("one.png", "two.png")
    plain = eightfold(verb, *names)
    assert plain.code == 0 and plain.is_calm
    asked = eightfold(verb, *names, "--dtype", "bfloat16", "--out", "there")
    assert asked.code == 0 and asked.err.count("\n") == 1 and asked.err.endswith("; bfloat16: asked for\n")
    assert eightfold(verb, "gone.png", "--out", "nowhere").err.count("\n") == 1  # the error alone: nothing ran
