from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eightfold.codec.pixels import (
    Picture,
    from_bytes,
    read_metadata,
    read_picture,
    to_bytes,
    to_image,
    to_pil,
    write_animation,
    write_picture,
)
from eightfold.core.errors import ImageError, OutputError

METADATA = {"eightfold": json.dumps({"prompt": 'a "red" cube,\nnaïve 立方体 🟥', "seed": 3}, ensure_ascii=False), "plain": "x: y, z"}


def draw(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Random pixels that 8 bits hold exactly."""
    return from_bytes(torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8))


def draw_alpha(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (1, 1, height, width), generator=torch.Generator().manual_seed(9)).float() / 255


def test_every_byte_survives() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    values = from_bytes(levels)
    assert values[0] == -1 and values[255] == 1
    assert torch.equal(to_bytes(values), levels)
    assert torch.equal(to_bytes((levels.float() / 255) * 2 - 1), levels)


def test_values_are_rounded_half_up_and_clamped() -> None:
    step = 1 / 127.5
    values = torch.tensor([-1 + 0.49 * step, -1 + 0.51 * step, 1 - 0.49 * step, -7.0, 7.0], dtype=torch.float64)
    assert to_bytes(values).tolist() == [0, 1, 255, 0, 255]
    halves = torch.tensor([0.0], dtype=torch.float64)  # exactly 127.5
    assert to_bytes(halves).tolist() == [128]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_never_a_picture(tmp_path: Path, value: float) -> None:
    image = draw(4, 5)
    image[0, 1, 2, 3] = value
    with pytest.raises(OutputError, match="1 values of 60 that are not finite") as caught:
        write_picture(tmp_path / "a.png", image, metadata={}, overwrite=False)
    assert "float32" in caught.value.hint
    assert [one.name for one in tmp_path.iterdir()] == []


@settings(max_examples=25)
@given(height=st.integers(1, 40), width=st.integers(1, 40), clear=st.booleans(), ending=st.sampled_from([".png", ".webp", ".PNG"]))
def test_lossless_files_give_back_every_byte(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, clear: bool, ending: str
) -> None:
    path = tmp_path_factory.mktemp("lossless") / f"a{ending}"
    image, alpha = draw(height, width), draw_alpha(height, width) if clear else None
    assert write_picture(path, image, alpha=alpha, metadata=METADATA, overwrite=False) == ()
    found = read_picture(path)
    assert torch.equal(found.image, image)
    assert found.notes == () and found.source == str(path)
    assert (found.width, found.height) == (width, height)
    if alpha is None:
        assert found.alpha is None
    else:
        assert found.alpha is not None and torch.equal(found.alpha, alpha)


def test_colours_under_clear_pixels_stay(tmp_path: Path) -> None:
    image, alpha = draw(8, 8), torch.zeros(1, 1, 8, 8)
    for name in ("a.png", "a.webp"):
        write_picture(tmp_path / name, image, alpha=alpha, overwrite=False)
        assert torch.equal(read_picture(tmp_path / name).image, image)


def test_jpeg_is_near_and_laid_on_white(tmp_path: Path) -> None:
    image = torch.linspace(-1, 1, 64)[None, None, None, :].expand(1, 3, 32, 64).clone()
    assert write_picture(tmp_path / "a.jpg", image, metadata={}, overwrite=False) == ()
    assert (read_picture(tmp_path / "a.jpg").image - image).abs().max() < 0.05
    alpha = torch.ones(1, 1, 32, 64)
    alpha[..., 32:] = 0
    notes = write_picture(tmp_path / "b.jpeg", -torch.ones_like(image), alpha=alpha, metadata={}, overwrite=False)
    assert notes == ("JPEG has no alpha: laid on white",)
    found = read_picture(tmp_path / "b.jpeg")
    assert found.alpha is None
    assert found.image[..., :30].max() < -0.95 and found.image[..., 34:].min() > 0.95


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_metadata_come_back(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / name, draw(5, 6), metadata=METADATA, overwrite=False)
    assert read_metadata(tmp_path / name) == METADATA
    write_picture(tmp_path / name, draw(5, 6), overwrite=True)
    assert read_metadata(tmp_path / name) == {}


@settings(max_examples=30)
@given(
    value=st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=60),
    name=st.sampled_from(["a.png", "a.jpg", "a.webp"]),
)
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, value: str, name: str) -> None:
    path = tmp_path_factory.mktemp("text") / name
    write_picture(path, draw(2, 2), metadata={"eightfold": value}, overwrite=False)
    assert read_metadata(path) == {"eightfold": value}


def test_somebody_else_s_comment_is_not_ours(tmp_path: Path) -> None:
    for number, comment in enumerate((b"ASCII\0\0\0hello", b"\xff\xfe", b"[1, 2]", b'ASCII\0\0\0{"a": 1}')):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = comment
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.jpg", exif=exif)
        assert read_metadata(tmp_path / f"{number}.jpg") == {}


def test_metadata_of_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    for path in (tmp_path / "a.png", tmp_path / "missing.png"):
        with pytest.raises(ImageError):
            read_metadata(path)


def test_a_prompt_that_is_not_proper_unicode_is_no_reason_to_lose_a_picture(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.webp"):
        write_picture(tmp_path / name, draw(2, 2), metadata={"eightfold": "a \udcff cube"}, overwrite=False)
        assert "cube" in read_metadata(tmp_path / name)["eightfold"]


@pytest.mark.parametrize(("name", "exact"), [("a.webp", True), ("a.gif", False)])
def test_animations(tmp_path: Path, name: str, exact: bool) -> None:
    flat = [
        from_bytes(torch.tensor(colour, dtype=torch.uint8))[None, :, None, None].expand(1, 3, 9, 7)
        for colour in ([255, 0, 0], [0, 0, 255], [0, 255, 0])
    ]
    frames = [draw(9, 7, seed) for seed in range(3)] if exact else flat
    write_animation(tmp_path / name, frames, milliseconds=120, metadata=METADATA, overwrite=False)
    with Image.open(tmp_path / name) as file:
        assert file.n_frames == 3
        for number, frame in enumerate(frames):
            file.seek(number)
            file.load()
            assert file.info["duration"] == 120 and file.info["loop"] == 0
            assert torch.equal(to_image(file), frame)
    assert read_metadata(tmp_path / name) == METADATA
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_animations_that_cannot_be(tmp_path: Path) -> None:
    for frames, name in (([], "a.gif"), ([draw(2, 3), draw(3, 2)], "a.gif"), ([draw(2, 3)], "a.png"), ([draw(2, 3)], "a")):
        with pytest.raises(OutputError) as caught:
            write_animation(tmp_path / name, frames, milliseconds=100, metadata={}, overwrite=False)
        assert caught.value.hint
    assert [one.name for one in tmp_path.iterdir()] == []


def test_unknown_endings_name_the_known_ones(tmp_path: Path) -> None:
    for name in ("a.tga", "a", "a.png.txt"):
        with pytest.raises(OutputError, match="unknown ending") as caught:
            write_picture(tmp_path / name, draw(2, 2), metadata={}, overwrite=False)
        assert ".png .jpg .jpeg .webp" in caught.value.hint
    assert [one.name for one in tmp_path.iterdir()] == []


def test_sides_that_a_format_cannot_hold(tmp_path: Path) -> None:
    for name, width in (("a.webp", 16384), ("a.jpg", 65501)):
        with pytest.raises(OutputError, match=f"{width}x1 is too large"):
            write_picture(tmp_path / name, torch.zeros(1, 3, 1, width), metadata={}, overwrite=False)
    with pytest.raises(OutputError, match="cannot be encoded as JPEG"):
        write_picture(tmp_path / "a.jpg", draw(2, 2), metadata={"long": "x" * 70_000}, overwrite=False)
    assert [one.name for one in tmp_path.iterdir()] == []


def test_an_existing_picture_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        Picture(draw(2, 2)).save(path)
    assert path.read_bytes() == b"precious"
    Picture(draw(2, 2), metadata=METADATA).save(path, overwrite=True)
    assert read_metadata(path) == METADATA
    assert torch.equal(read_picture(path).image, draw(2, 2))
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]


def test_to_pil_and_back() -> None:
    image = draw(5, 7)
    assert torch.equal(to_image(to_pil(image)), image)
    assert to_pil(image, torch.ones(1, 1, 5, 7)).mode == "RGBA"
    assert np.asarray(to_pil(image))[4, 6].tolist() == to_bytes(image)[0, :, 4, 6].tolist()


FULL_DISK = """
import resource, signal, sys
import torch
from eightfold.codec.latentfile import Latent, Padding
from eightfold.codec.pixels import write_animation, write_picture
from eightfold.core.errors import OutputError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = sys.argv[1]
image = torch.rand(1, 3, 64, 64) * 2 - 1
latent = Latent(raw=torch.rand(1, 4, 100, 100), space="sd", width=800, height=800, padding=Padding(0, 0, 0, 0), reading="mode")
jobs = {name: lambda path: write_picture(path, image, metadata={}, overwrite=True) for name in ("a.png", "b.png", "a.jpg", "a.webp")}
frames = [image, -image]
jobs |= {name: lambda path: write_animation(path, frames, milliseconds=9, overwrite=True) for name in ("a.gif", "b.gif", "b.webp")}
jobs |= {name: lambda path: latent.save(path, overwrite=True) for name in ("c.latent.safetensors", "d.latent.safetensors")}
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
for name, job in jobs.items():
    try:
        job(folder + "/" + name)
    except OutputError as error:
        assert name in str(error) and "space" in error.hint and chr(10) not in str(error), error
    else:
        raise SystemExit(name + " was written")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE")
def test_no_space_left(tmp_path: Path) -> None:
    """Each kind of file, once where there was none and once over an old one: an error of ours, nothing half-written, the old one kept."""
    old = ["a.png", "b.gif", "c.latent.safetensors"]
    for name in old:
        (tmp_path / name).write_bytes(b"old")
    command, env = [sys.executable, "-c", FULL_DISK, str(tmp_path)], {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == old
    assert all((tmp_path / name).read_bytes() == b"old" for name in old)
