"""Texts in EXIF: ours, A1111's and ComfyUI's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eightfold.codec.comments import EXIF_FOLDER, UNICODE, USER_COMMENT, to_comment
from eightfold.codec.pixels import read_metadata, write_picture

TEXT = "a réd cube, 立方体 🟥\nNegative prompt: x\nSteps: 20, Sampler: Euler a, Seed: 1"
IMAGE = torch.zeros(1, 3, 4, 4)


def write_exif(path: Path, comment: bytes, **captions: str) -> Path:
    exif = Image.Exif()
    exif.get_ifd(EXIF_FOLDER)[USER_COMMENT] = comment
    for name, text in captions.items():
        exif[{"make": 0x010F, "model": 0x0110, "description": 0x010E}[name]] = text
    Image.new("RGB", (4, 4)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.png"])
def test_both_texts_come_back(tmp_path: Path, name: str) -> None:
    metadata = {"parameters": TEXT, "eightfold": '{"prompt": "é"}'}
    write_picture(tmp_path / name, IMAGE, metadata=metadata, overwrite=False)
    assert read_metadata(tmp_path / name) == metadata


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_the_comment_is_what_a1111_writes(tmp_path: Path, name: str) -> None:
    """The word UNICODE and UTF-16, the high byte first."""
    write_picture(tmp_path / name, IMAGE, metadata={"parameters": TEXT, "eightfold": "{}"}, overwrite=False)
    with Image.open(tmp_path / name) as image:
        assert image.getexif().get_ifd(EXIF_FOLDER)[USER_COMMENT] == b"UNICODE\0" + TEXT.encode("utf-16-be")


@settings(max_examples=30)
@given(
    text=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60).filter(str.strip),
    name=st.sampled_from(["a.jpg", "a.webp"]),
)
def test_any_parameters_come_back(tmp_path_factory: pytest.TempPathFactory, text: str, name: str) -> None:
    text = f"Steps: {text}"
    path = tmp_path_factory.mktemp("comment") / name
    write_picture(path, IMAGE, metadata={"parameters": text, "eightfold": "1"}, overwrite=False)
    assert read_metadata(path) == {"parameters": text, "eightfold": "1"}


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-16"])
def test_every_byte_order_is_read(encoding: str) -> None:
    assert to_comment(UNICODE + TEXT.encode(encoding)) == TEXT


@pytest.mark.parametrize(
    "comment", [b"ASCII\0\0\0Steps: 3, Seed: 1, Size: 8x8", bytes(8) + b"Steps: 3, Seed: 1, Size: 8x8\0", b"Steps: 3, Seed: 1, Size: 8x8"]
)
def test_plain_comments_with_settings_are_parameters(tmp_path: Path, comment: bytes) -> None:
    assert read_metadata(write_exif(tmp_path / "a.jpg", comment)) == {"parameters": "Steps: 3, Seed: 1, Size: 8x8"}


def test_a_camera_s_comment_says_nothing(tmp_path: Path) -> None:
    for number, comment in enumerate((b"UNICODE\0" + bytes(20), b"UNICODE\0" + "  ".encode("utf-16-be"), b"ASCII\0\0\0   ", b"")):
        assert read_metadata(write_exif(tmp_path / f"{number}.jpg", comment, make="Canon", model="Eos: 5")) == {}


def test_comfy_writes_into_captions(tmp_path: Path) -> None:
    path = write_exif(tmp_path / "a.webp", b"", model='prompt:{"1": {}}', make="workflow:{}")
    assert read_metadata(path) == {"prompt": '{"1": {}}', "workflow": "{}"}


@pytest.mark.parametrize(("length", "has_both"), [(31_000, True), (32_000, False)])
def test_a_long_prompt_is_no_reason_to_lose_a_jpeg(tmp_path: Path, length: int, has_both: bool) -> None:
    """The text of others gives way to ours, which says as much."""
    metadata = {"parameters": "Steps: " + "x" * length, "eightfold": "y" * 1500}
    write_picture(tmp_path / "a.jpg", IMAGE, metadata=metadata, overwrite=False)
    assert read_metadata(tmp_path / "a.jpg") == (metadata if has_both else {"eightfold": metadata["eightfold"]})
