"""eightfold encode DIR and decode DIR."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eightfold.autoencoders.tiny import TinyAutoencoder
from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.codec import Codec
from eightfold.codec.latentfile import read_latent
from eightfold.codec.pixels import read_metadata
from eightfold.specs.network import TinyConfig
from pocketfile import build_latent, read_pixels, read_size, write_photo
from weights import randomise

SIZES = {"a.png": (24, 16), "sub/b.jpg": (17, 9), "sub/deep/c.png": (8, 8)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three pictures, and what else lies in folders."""
    for seed, (name, size) in enumerate(SIZES.items()):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_photo(tmp_path / "photos" / name, *size, seed=seed)
    (tmp_path / "photos" / "notes.txt").write_text("not a picture, and not said to be one")
    (tmp_path / "photos" / ".a.0123456789ab.png").write_text("left by a run that was killed")
    return tmp_path / "photos"


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.usefixtures("photos")
def test_a_folder_there_and_back(eightfold: Any, tmp_path: Path) -> None:
    answer = eightfold("encode", "photos", "--out", "latents")
    assert answer.code == 0
    assert answer.out.splitlines()[0] == "latents/a.latent.safetensors  4x2x3 (pocket) of 24x16, mode"
    assert list_files(tmp_path / "latents") == [f"{name[:-4]}.latent.safetensors" for name in SIZES]
    ran, count = answer.err.splitlines()
    assert ran.startswith("ran on ") and count.startswith("3 encoded; ") and count.endswith(" images/s")
    answer = eightfold("decode", "latents", "--out", "back")
    assert answer.code == 0 and answer.err.splitlines()[1].startswith("3 decoded; ")
    assert {name: read_size(tmp_path / "back" / f"{name[:-4]}.png") for name in SIZES} == SIZES


def test_a_second_run_goes_on(eightfold: Any, tmp_path: Path, photos: Path) -> None:
    assert eightfold("encode", "photos", "--out", "latents").code == 0
    again = eightfold("encode", "photos", "--out", "latents")
    assert (again.code, again.out, again.err) == (0, "", "0 encoded, 3 already there\n")
    (photos / "a.png").rename(photos / "d.png")
    (photos / "bad.png").write_text("no picture")
    more = eightfold("encode", "photos", "--out", "latents")
    assert more.code == 3 and more.out.startswith("latents/d.latent.safetensors") and more.out.count("\n") == 1
    error, ran, count = more.err.splitlines()
    assert error.startswith("error: photos/bad.png is not a picture") and "Hint: " in error
    assert ran.startswith("ran on ") and count.startswith("1 encoded, 2 already there, 1 failed; ")
    (tmp_path / "latents").rename(tmp_path / "moved")
    assert eightfold("encode", "photos", "--out", "moved").err.endswith("0 encoded, 3 already there, 1 failed\n")


@pytest.mark.usefixtures("photos")
def test_other_content_is_kept(eightfold: Any, tmp_path: Path, photos: Path) -> None:
    assert eightfold("encode", "photos", "--out", "latents").code == 0
    write_photo(photos / "a.png", 24, 16, seed=9)
    before = (tmp_path / "latents" / "a.latent.safetensors").read_bytes()
    answer = eightfold("encode", "photos", "--out", "latents")
    assert answer.code == 3 and "photos/a.png" in answer.err and "--overwrite" in answer.err
    assert answer.err.endswith("0 encoded, 2 already there, 1 failed\n")
    assert (tmp_path / "latents" / "a.latent.safetensors").read_bytes() == before
    answer = eightfold("encode", "photos", "--out", "latents", "--sample")
    assert answer.code == 2 and answer.err.count("\n") == 4 and answer.err.count("Hint: ") == 3
    assert eightfold("encode", "photos", "--out", "latents", "--overwrite").code == 0
    assert (tmp_path / "latents" / "a.latent.safetensors").read_bytes() != before
    assert read_latent(tmp_path / "latents" / "a.latent.safetensors").reading == "mode"


def test_json_lists_them_all(eightfold: Any, photos: Path) -> None:
    assert eightfold("encode", "photos/a.png", "--out", "latents").code == 0
    (photos / "bad.png").write_text("no picture")
    answer = eightfold("encode", "photos", "--out", "latents", "--json")
    assert answer.code == 3 and answer.err.splitlines()[1].startswith("2 encoded, 1 already there, 1 failed; ")
    assert [result["source"] for result in answer.results] == [f"photos/{name}" for name in ("a.png", "bad.png", *[*SIZES][1:])]
    assert [result.get("skipped") for result in answer.results] == [True, None, False, False]
    assert "error" in answer.results[1] and answer.results[1]["hint"]
    assert answer.results[2]["shape"] == [4, 2, 3] and answer.results[2]["dtype"] == "float32"
    assert all(result["seconds"] >= 0 and result["path"].startswith("latents/") for result in answer.results if "error" not in result)


def test_files_and_folders_mixed(eightfold: Any, tmp_path: Path, photos: Path) -> None:
    write_photo(tmp_path / "alone.png", 8, 8)
    write_photo(photos / "alone.jpg", 8, 8, seed=3)
    answer = eightfold("encode", "alone.png", "photos/sub", "photos", "gone.png", "--out", "latents")
    assert answer.code == 3
    names = ["a", "alone", "b", "deep/c", "sub/b", "sub/deep/c"]
    assert list_files(tmp_path / "latents") == [f"{name}.latent.safetensors" for name in names]
    lines = answer.err.splitlines()
    assert "gone.png is not there" in lines[0] and "photos/alone.jpg: its result would be" in lines[1] and "alone.png is" in lines[1]


@pytest.mark.usefixtures("photos")
def test_results_go_to_the_current_folder(eightfold: Any, tmp_path: Path, photos: Path) -> None:
    """As those of single files do, and never beside the pictures unasked."""
    before = list_files(photos)
    assert eightfold("encode", "photos").code == 0
    assert list_files(photos) == before
    assert (tmp_path / "a.latent.safetensors").is_file() and (tmp_path / "sub" / "deep" / "c.latent.safetensors").is_file()


@pytest.mark.usefixtures("unloadable")
def test_what_cannot_be_a_batch(refuse: Any, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    assert "empty has no picture in it" in refuse("encode", "empty")
    assert "photos has no latent file in it" in refuse("decode", "photos")
    assert "empty has no picture in it" in refuse("encode", "photos", "empty")
    assert "--out x.safetensors is one file" in refuse("encode", "photos", "--out", "x.safetensors")
    assert "not a folder" in refuse("encode", "photos", "--out", "file/deep")


def test_all_bad_in_a_folder(eightfold: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.jpg"):
        (tmp_path / "photos" / name).write_text("no picture")
    answer = eightfold("encode", "photos", "--out", "latents")
    assert (answer.code, answer.out) == (2, "") and answer.err.endswith("\n0 encoded, 2 failed\n")
    assert not (tmp_path / "latents").exists()


def test_a_bad_latent_among_good(eightfold: Any, tmp_path: Path) -> None:
    (tmp_path / "latents").mkdir()
    build_latent().save(tmp_path / "latents" / "good.latent.safetensors")
    build_latent().save(tmp_path / "latents" / "plain.latent")
    build_latent("sd").save(tmp_path / "latents" / "foreign.latent.safetensors")
    (tmp_path / "latents" / "bad.latent.safetensors").write_bytes(b"junk")
    answer = eightfold("decode", "latents", "--out", "back")
    assert answer.code == 3 and list_files(tmp_path / "back") == ["good.png", "plain.png"]
    assert "latents/bad.latent.safetensors" in answer.err and "latents/foreign.latent.safetensors is in space sd" in answer.err
    forced = eightfold("decode", "latents", "--out", "back", "--force")
    assert forced.code == 3 and "1 decoded, 2 already there, 1 failed" in forced.err and "decoded by force" in forced.err
    assert json.loads(read_metadata(tmp_path / "back" / "foreign.png")["eightfold"])["forced"] is True


def test_the_space_is_that_of_the_first_latent_that_can_be_read(eightfold: Any, tmp_path: Path) -> None:
    weights = randomise(TinyAutoencoder(TinyConfig(channels=4)), seed=0).state_dict()  # of space sd or of space sdxl
    write_safetensors(tmp_path / "tiny.safetensors", weights, {}, overwrite=False)
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents" / "a.latent.safetensors").write_bytes(b"junk")
    write_photo(tmp_path / "b.png", 24, 16)
    assert eightfold("encode", "b.png", "--out", "latents", "--vae", "tiny.safetensors", "--space", "sdxl").code == 0
    answer = eightfold("decode", "latents", "--out", "back", "--vae", "tiny.safetensors", "--json")
    assert answer.code == 3 and [("error" in result) for result in answer.results] == [True, False]


def test_ctrl_c_keeps_what_is_finished(eightfold: Any, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, calls = Codec.encode, []

    def interrupt(self: Codec, picture: Any, **options: Any) -> Any:
        calls.append(picture)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, picture, **options)

    monkeypatch.setattr(Codec, "encode", interrupt)
    answer = eightfold("encode", "photos", "--out", "latents")
    assert answer.code == 130 and answer.err.splitlines()[-1] == "cancelled; what was finished is kept"
    assert list_files(tmp_path / "latents") == ["a.latent.safetensors", "sub/b.latent.safetensors"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("read", "write"))]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert "1 encoded, 2 already there" in eightfold("encode", "photos", "--out", "latents").err


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_real_ctrl_c(tmp_path: Path) -> None:
    """Of a process that has far more to do than there is time before the signal."""
    (tmp_path / "photos").mkdir()
    pixels = read_pixels(write_photo(tmp_path / "one.png", 256, 256))
    for number in range(400):
        Image.fromarray(np.roll(pixels, number, axis=1)).save(tmp_path / "photos" / f"{number:03}.bmp")
    command = [sys.executable, "-m", "eightfold", "encode", "photos", "--out", "latents"]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    streams["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test that runs in the background is deaf to it
    with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, **streams) as running:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "latents").glob("*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130 and err.endswith("cancelled; what was finished is kept\n") and "Traceback" not in err
    made = list_files(tmp_path / "latents")
    assert made == [f"{number:03}.latent.safetensors" for number in range(len(made))] and 1 <= len(made) < 400
    assert all(read_latent(tmp_path / "latents" / name).width == 256 for name in made)


def test_single_files_are_as_they_were(eightfold: Any, refuse: Any, tmp_path: Path) -> None:
    """Without a folder: what is there is refused before any work, and an error is said when it comes."""
    write_photo(tmp_path / "a.png", 8, 8)
    (tmp_path / "bad.png").write_text("no picture")
    answer = eightfold("encode", "a.png", "bad.png")
    assert answer.code == 3 and answer.err.splitlines()[0].startswith("error: bad.png") and answer.err.count("\n") == 2
    assert "exists already" in refuse("encode", "a.png")
    assert eightfold("encode", ".").err.startswith("error: bad.png")
    latent = read_latent(tmp_path / "a.latent.safetensors")
    replace(latent, origin={}).save(tmp_path / "a.latent.safetensors", overwrite=True)
    assert "exists already and was kept" in eightfold("encode", ".").err
