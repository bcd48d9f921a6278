"""What generate says before it works, and the options that begin from pictures, as a user types them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from eightfold.codec.pixels import read_picture
from pocketfile import write_photo, write_vae

SMALL = ("--steps", "2", "--seed", "1")


def test_the_plan_is_told_and_nothing_is_made(eightfold: Any, tmp_path: Path) -> None:
    answer = eightfold("generate", "a red cube", "--explain", "--json", "--enlarge", "2", "--steps", "10")
    assert answer.code == 0 and list(tmp_path.iterdir()) == []
    (plan,) = answer.results
    assert plan["sampler"] == "dpm++2m" and plan["prediction"] == "velocity" and plan["width"] == 128
    assert plan["legs"] == [{"width": 64, "height": 64, "steps": 10}, {"width": 128, "height": 128, "steps": 6}]
    assert plan["decoding"]["peak_bytes"] > 0
    assert plan["tokens"] == {"prompt": [3]} and plan["warnings"] == []
    text = eightfold("generate", "a red cube", "--explain", "--negative", "a ball")
    assert "\ntokens           3 tokens, of " in text.out and "\nnegative tokens  2 tokens, of " in text.out
    assert text.code == 0 and "decode 128x128" in text.out and "guidance         3.0" in text.out


def test_from_a_picture_with_a_mask(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 40, 24, alpha=True)
    mask = tmp_path / "mask.png"
    from PIL import Image

    Image.new("L", (40, 24), 0).save(mask)
    white = Image.open(mask)
    white.paste(255, (0, 0, 20, 24))
    white.save(mask)
    answer = eightfold("generate", "a blue cube", *SMALL, "--start", "photo.png", "--mask", "mask.png", "--feather", "2")
    assert answer.code == 0
    before, after = read_picture(tmp_path / "photo.png"), read_picture(tmp_path / "a-blue-cube-1.png")
    assert (before.image[..., 20:] == after.image[..., 20:]).all() and (before.image[..., :20] != after.image[..., :20]).any()
    assert (before.alpha == after.alpha).all()  # type: ignore[union-attr]


def test_a_folder_of_pictures(eightfold: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("one", "two"):
        write_photo(tmp_path / "in" / f"{name}.png", 24, 16)
    answer = eightfold("generate", "a blue cube", *SMALL, "--start", "in", "--out", "out", "--json")
    assert answer.code == 0
    assert sorted(Path(one["path"]).name for one in answer.results) == ["one-a-blue-cube-1.png", "two-a-blue-cube-1.png"]


def test_room(eightfold: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 24, 16)
    assert eightfold("generate", "a blue cube", *SMALL, "--start", "photo.png", "--outpaint", "8,0,4,0").code == 0
    assert read_picture(tmp_path / "a-blue-cube-1.png").width == 36


def test_a_preview_that_is_written_at_every_step(eightfold: Any, tmp_path: Path) -> None:
    answer = eightfold("generate", "a blue cube", *SMALL, "--size", "64x48", "--preview", "now.png")
    assert answer.code == 0 and read_picture(tmp_path / "now.png").width == 8


def test_a_preview_by_another_autoencoder(eightfold: Any, refuse: Any, tmp_path: Path) -> None:
    """The model's own will do: what it shows at the last step is the picture."""
    write_vae(tmp_path / "vae.safetensors")
    how = ("--size", "64x48", "--preview", "now.png", "--preview-vae", "vae.safetensors")
    assert eightfold("generate", "a blue cube", *SMALL, *how, "--sampler", "ddim").code == 0
    assert (read_picture(tmp_path / "now.png").image == read_picture(tmp_path / "a-blue-cube-1.png").image).all()
    (tmp_path / "now.png").unlink()
    (tmp_path / "a-blue-cube-1.png").unlink()
    assert "--preview-vae is for --preview" in refuse("generate", "a blue cube", *SMALL, "--preview-vae", "vae.safetensors")
    save_file({"1.weight": torch.zeros(64, 4, 3, 3), "19.weight": torch.zeros(3, 64, 3, 3)}, tmp_path / "taesd.safetensors")
    assert "expected space pocket" in refuse(
        "generate", "a blue cube", *SMALL, "--preview", "now.png", "--preview-vae", "taesd.safetensors"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mask", "mask.png"), "there is no picture to begin from"),
        (("--start", "nowhere.png"), "nowhere.png"),
        (("--outpaint", "8"), "LEFT,TOP,RIGHT,BOTTOM"),
        (("--strength", "0.5"), "there is no picture to begin from"),
        (("--preview", "now.txt"), "unknown ending '.txt'"),
        (("--preview", "a-blue-cube-1.png"), "also the name of a result"),
        (("--enlarge", "9"), "enlarge 9.0: expected 1 to 8"),
        (("--variation", "2"), "variation 2.0"),
    ],
)
def test_what_cannot_be(refuse: Any, options: tuple[str, ...], message: str) -> None:
    assert message in refuse("generate", "a blue cube", *SMALL, *options)
