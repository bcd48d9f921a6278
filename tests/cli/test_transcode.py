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

from eightfold.codec.latentfile import read_latent
from eightfold.codec.pixels import read_metadata
from pocketfile import build_latent, read_pixels, read_size, write_photo, write_vae

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
    assert answer.code == 0 and answer.err == ""
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
    assert answer.err == "warning: foreign.latent.safetensors: a latent of space sd decoded by force in space pocket\n"
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
