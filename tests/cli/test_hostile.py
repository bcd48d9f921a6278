"""Bad input, one test each: exit code 2, one line with a hint, nothing half-written, nothing lost. `refuse` checks all of that."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.latentfile import to_metadata
from pocketfile import POCKET_FILE, build_latent, write_photo

SMALL = ("--size", "32x32", "--steps", "1")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 15823342\n"


@pytest.fixture(params=["--model", "--vae"])
def weights(request: pytest.FixtureRequest, refuse: Any) -> Any:
    """Generate with a weight file that is none."""
    return lambda path: refuse("generate", "a red cube", request.param, path, *SMALL)


def test_missing_weights(weights: Any) -> None:
    assert "gone.safetensors" in weights("gone.safetensors")


def test_truncated_weights(weights: Any, tmp_path: Path) -> None:
    (tmp_path / "half.safetensors").write_bytes(POCKET_FILE.read_bytes()[:1_000_000])
    assert "truncated" in weights("half.safetensors")


def test_weights_truncated_in_the_header(weights: Any, tmp_path: Path) -> None:
    (tmp_path / "head.safetensors").write_bytes(POCKET_FILE.read_bytes()[:500])
    assert "truncated" in weights("head.safetensors")


def test_a_picture_named_like_weights(weights: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "x.png", 64, 64).rename(tmp_path / "x.safetensors")
    assert "PNG picture" in weights("x.safetensors")


def test_random_bytes_named_like_weights(weights: Any, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(bytes((37 * i * i + 11) % 256 for i in range(5000)))
    assert "not a safetensors file" in weights("x.safetensors")


def test_a_pointer_in_place_of_weights(weights: Any, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(POINTER)
    assert "LFS pointer" in weights("x.safetensors")


def test_foreign_weights(weights: Any, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x.safetensors", {"weight": torch.zeros(3, 3)}, {}, overwrite=False)
    assert "no known model" in weights("x.safetensors")


def test_a_latent_in_place_of_weights(weights: Any, tmp_path: Path) -> None:
    build_latent().save(tmp_path / "x.safetensors")
    assert "no known model" in weights("x.safetensors")


def test_text_named_like_a_picture(refuse: Any, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("dear diary")
    for verb in ("encode", "roundtrip", "noise", "info"):
        assert "x.png is not a picture" in refuse(verb, "x.png")


def test_a_header_that_claims_a_huge_picture(refuse: Any, tmp_path: Path) -> None:
    side = 50_000
    chunks = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(bytes(1000))),
            (b"IEND", b""),
        )
    )
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    refuse("encode", "gone.png")  # what loading the model takes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for verb in ("encode", "roundtrip", "info"):
        assert "50000x50000" in refuse(verb, "bomb.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; the picture would take 7.5 GB


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_latent_with_a_value_that_is_not_finite(refuse: Any, tmp_path: Path, value: float) -> None:
    latent = build_latent()
    latent.raw[0, 1, 2, 0] = value
    write_safetensors(tmp_path / "x.latent.safetensors", {"latent": latent.raw}, to_metadata(latent), overwrite=False)
    assert "not finite" in refuse("decode", "x.latent.safetensors")


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        (("generate", "a red cube"), "a-red-cube-0.png"),
        (("generate", "a red cube", "a blue ball"), "a-blue-ball-0.png"),
        (("generate", "a red cube", "--out", "x.png"), "x.png"),
        (("generate", "a red cube", "--film", "film.gif"), "film.gif"),
        (("encode", "photo.png"), "photo.latent.safetensors"),
        (("decode", "other.latent.safetensors"), "other.png"),
        (("roundtrip", "photo.png"), "photo.roundtrip.png"),
        (("noise", "photo.png"), "photo.noise.png"),
        (("walk", "photo.png", "photo.png"), "photo-to-photo.webp"),
    ],
)
def test_what_is_there_is_kept(refuse: Any, tmp_path: Path, arguments: tuple[str, ...], there: str) -> None:
    write_photo(tmp_path / "photo.png", 8, 8)
    build_latent().save(tmp_path / "other.latent.safetensors")
    (tmp_path / there).write_text("somebody's work")
    line = refuse(*arguments)
    assert f"{there} exists already" in line and "--overwrite" in line


FULL = """
import resource, sys
from eightfold.cli.main import run
codes = [run(["encode", "photo.png", "--out", "warm.safetensors"])]  # with room
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
codes.append(run(["encode", "photo.png"]))
codes.append(run(["generate", "a red cube", "--size", "64x64", "--steps", "1"]))
codes.append(run(["walk", "photo.png", "photo.png", "--frames", "2"]))
print(codes)
"""


def test_no_space_left(tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 64, 64)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", FULL], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[0, 2, 2, 2]", done.stdout + done.stderr
    said, *lines = [line for line in done.stderr.splitlines() if not line.startswith("its latent could not be kept either: cannot write")]
    assert len(lines) < len(done.stderr.splitlines()) - 1
    assert said.startswith("ran on ")  # the one with room
    assert len(lines) == 3 and all(line.startswith("error: cannot write ") and "Hint: check the space left" in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png", "warm.safetensors"]


@pytest.mark.parametrize(
    ("options", "nearest"),
    [
        (("--sampler", "eulr"), "euler"),
        (("--grid", "karas"), "karras"),
        (("--dtype", "flot32"), "float32"),
        (("--model", "poket"), "pocket"),
        (("--step", "3"), "--steps"),
    ],
)
def test_unknown_names(refuse: Any, options: tuple[str, str], nearest: str) -> None:
    line = refuse("generate", "a red cube", "--size", "32x32", *options)
    assert nearest in line and options[1 if options[0] != "--step" else 0] in line


@pytest.mark.parametrize(("name", "known"), [("--sampler", "ddpm"), ("--grid", "trailing"), ("--model", "pocket"), ("--dtype", "bfloat16")])
def test_names_that_are_near_to_nothing(refuse: Any, name: str, known: str) -> None:
    assert known in refuse("generate", "a red cube", name, "qqqqqq", *SMALL)


def test_unknown_verb(refuse: Any) -> None:
    assert '"generate"' in refuse("generat", "a red cube")


@pytest.mark.parametrize("options", [(), ("--negative", "a redd cube")])
def test_unknown_word(refuse: Any, options: tuple[str, ...]) -> None:
    line = refuse("generate", "a red cube" if options else "a redd cube", *options, *SMALL)
    assert "'redd'" in line and "nearest known: red" in line and "--ignore-unknown" in line and "--model" in line


def test_a_bad_prompt_stops_the_good_ones_first(refuse: Any) -> None:
    assert "zebra" in refuse("generate", "a red cube", "a blue ball", "a zebra", *SMALL)


@pytest.mark.parametrize("size", ["64", "64x", "x64", "64x64x3", "0x64", "64x0", "-4x64", "99999x64", "axb", "64 64"])
def test_impossible_sizes(refuse: Any, size: str) -> None:
    assert "size" in refuse("generate", "a red cube", f"--size={size}", "--steps", "1")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--steps", "0"),
        ("--steps", "-3"),
        ("--steps", "1001"),
        ("--steps", "2.5"),
        ("--count", "0"),
        ("--count", "-1"),
        ("--count", "1000000000"),
        ("--seed", "-1"),
        ("--seed", str(2**63)),
        ("--seed", "2.5"),  # which the parser would round
        ("--seed", "1e3"),
        ("--guidance", "-1"),
        ("--guidance", "nan"),
        ("--eta", "0.5"),
        ("--eta", "nan"),
        ("--device", "teapot"),
        ("--device", "cuda:99"),
    ],
)
def test_impossible_values(refuse: Any, option: str, value: str) -> None:
    line = refuse("generate", "a red cube", "--size", "32x32", f"{option}={value}")
    assert option.removeprefix("--") in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(refuse: Any) -> None:
    assert "--device cpu" in refuse("generate", "a red cube", "--device", "cuda", *SMALL)


@pytest.mark.usefixtures("unloadable")
def test_no_prompts(refuse: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n  \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    assert "no prompt" in refuse("generate")
    assert "empty.txt has no prompts" in refuse("generate", "--prompts", "empty.txt")
    assert "binary.txt is not text" in refuse("generate", "--prompts", "binary.txt")
    assert "gone.txt" in refuse("generate", "--prompts", "gone.txt")


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize("verb", ["encode", "decode", "roundtrip"])
def test_no_files(refuse: Any, verb: str) -> None:
    assert f"eightfold {verb}" in refuse(verb)


@pytest.mark.usefixtures("unloadable")
def test_one_name_for_two_results(refuse: Any, tmp_path: Path) -> None:
    for options in (("--count", "2"), ("a blue ball",)):
        assert "2 results" in refuse("generate", "a red cube", *options, "--out", "x.png", *SMALL)
    write_photo(tmp_path / "photo.png", 8, 8)
    assert "2 results" in refuse("encode", "photo.png", "other.png", "--out", "x.safetensors")


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize(
    "options", [("--out", "x.bmp"), ("--out", "x.safetensors"), ("--film", "x.bmp"), ("--film", "x"), ("--film", "a-red-cube-0.png")]
)
def test_names_of_another_kind(refuse: Any, options: tuple[str, str]) -> None:
    assert options[1] in refuse("generate", "a red cube", *options, *SMALL)


@pytest.mark.usefixtures("unloadable")
def test_a_folder_that_cannot_be_one(refuse: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "not a folder" in refuse("generate", "a red cube", "--out", "file", *SMALL)
    assert "not a folder" in refuse("generate", "a red cube", "--out", "file/deep/x.png", *SMALL)
    (tmp_path / "folder.gif").mkdir()
    assert "folder.gif" in refuse("generate", "a red cube", "--film", "folder.gif", "--overwrite", *SMALL)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("[schedule]", "[schedule]\nbach = 3"), "bach"),
        (("steps = ", "steps = 'many' # "), "steps"),
        (("space = ", "spaec = "), "spa"),
        (("[schedule]", "[schedule"), "not TOML"),
    ],
)
def test_a_configuration_with_a_mistake(refuse: Any, tmp_path: Path, change: tuple[str, str], named: str) -> None:
    good = (Path(__file__).parents[2] / "configs" / "pocket-autoencoder.toml").read_text()
    assert change[0] in good
    (tmp_path / "bad.toml").write_text(good.replace(*change, 1))
    line = refuse("train", "autoencoder", "bad.toml", "--out", "run")
    assert "bad.toml" in line and named in line


def test_a_missing_configuration(refuse: Any) -> None:
    assert "gone.toml" in refuse("train", "denoiser", "gone.toml")


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "a red cube", "--out", "a" * 300 + ".png"),
        ("generate", "a red cube", "--out", "a" * 300),
        ("generate", "a red cube", "--film", "a" * 300 + ".gif"),
        ("encode", "a" * 300 + ".png"),
        ("info", "a" * 300 + ".png"),
    ],
)
def test_names_that_are_too_long(refuse: Any, arguments: tuple[str, ...]) -> None:
    assert "a" * 300 in refuse(*arguments)


def test_a_model_with_a_name_that_is_too_long(refuse: Any) -> None:
    refuse("generate", "a red cube", "--model", "a" * 300, *SMALL)


def test_training_into_a_file(refuse: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    config = Path(__file__).parents[2] / "configs" / "pocket-autoencoder.toml"
    assert "not a folder" in refuse("train", "autoencoder", config, "--out", "taken")
