"""What a file is, from its header."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.latentfile import to_metadata
from eightfold.core.errors import CheckpointError, ImageError
from eightfold.pipelines.inspect import read_info, to_record
from pocketfile import POCKET_FILE, build_latent, write_photo


def test_a_latent_tells_its_own_facts_and_no_others(tmp_path: Path) -> None:
    latent = build_latent(width=16, height=24)
    metadata = {**to_metadata(latent), "eightfold.kind": "a lie", "eightfold.file": "another lie", "eightfold.seed": "3"}
    write_safetensors(tmp_path / "x", {"latent": latent.raw}, metadata, overwrite=False)
    facts = read_info(tmp_path / "x")  # known by its content, whatever it is called
    assert (facts["kind"], facts["file"], facts["shape"]) == ("latent", str(tmp_path / "x"), [1, 4, 3, 2])
    assert (facts["space"], facts["seed"]) == ("pocket", "3")


def test_weights_are_counted(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.float16)}
    write_safetensors(tmp_path / "x.safetensors", tensors, {"format": "pt"}, overwrite=False)
    facts = read_info(tmp_path / "x.safetensors")
    assert (facts["tensors"], facts["parameters"], facts["dtypes"]) == (2, 22, {"F32": 1, "F16": 1})
    assert facts["parts"] == {"unknown": 22} and facts["metadata"] == {"format": "pt"}
    assert facts["looks like"] == "no known space or family"
    assert facts["bytes"] == (tmp_path / "x.safetensors").stat().st_size


def test_a_whole_model_is_space_and_family() -> None:
    facts = read_info(POCKET_FILE)
    assert facts["looks like"] == ["pocket"]  # the space and the family of that name
    assert facts["parameters"] == sum(facts["parts"].values())


def test_a_picture(tmp_path: Path) -> None:
    facts = read_info(write_photo(tmp_path / "photo.jpg", 45, 30))
    assert (facts["kind"], facts["format"], facts["width"], facts["height"]) == ("picture", "JPEG", 45, 30)
    assert "made with" not in facts and "metadata" not in facts


def test_what_is_none_of_the_three(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("words")
    (tmp_path / "x.pt").write_bytes(b"\x80\x02words")
    with pytest.raises(ImageError, match="not a picture"):
        read_info(tmp_path / "x.txt")
    with pytest.raises(CheckpointError, match="pickle"):
        read_info(tmp_path / "x.pt")
    with pytest.raises(ImageError, match="not there"):
        read_info(tmp_path / "gone")
    with pytest.raises(ImageError, match="not a file"):
        read_info(tmp_path)


def test_records() -> None:
    assert to_record('{"prompt": "x", "seed": 1}') == {"prompt": "x", "seed": 1}
    assert to_record('{"psnr": Infinity}') == {"psnr": None}  # which JSON does not know
    assert to_record("") == to_record("words") == to_record("[1]") == to_record("[" * 100_000) == {}
