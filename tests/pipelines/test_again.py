"""What a picture was made with beside its model, found again; and how its text was read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eightfold.checkpoints.filehash import hash_file
from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.pixels import Picture
from eightfold.core.errors import CheckpointError
from eightfold.families.pocket import POCKET_FAMILY
from eightfold.families.sd1 import SD1
from eightfold.families.sd2 import SD2
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.pipelines.again import find_again, to_skip
from eightfold.pipelines.extras import Extras
from eightfold.pipelines.metadata import from_record
from eightfold.pipelines.provenance import Lora, Provenance
from eightfold.pipelines.request import Guide
from foreigntexts import RECORD


def write(path: Path, value: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(path, {"a": torch.full((2,), value)}, {}, overwrite=True)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_everything_that_a_record_names(folder: Path) -> None:
    paths = [write(folder / name, number) for number, name in enumerate(("a.safetensors", "b.safetensors", "nets/c.safetensors"))]
    Picture(torch.zeros(1, 3, 8, 8)).save(folder / "pose.png")
    rows = [{"file": path.name, "sha256": hash_file(path)} for path in paths[:2]]
    guide = {
        "net": "nets/c.safetensors",
        "sha256": hash_file(paths[2]),
        "picture": "pose.png",
        "picture_sha256": hash_file(folder / "pose.png"),
    }
    guide |= {"weight": 0.1234567890123, "start": 0.25, "end": 0.5, "prepare": "canny"}
    record = {**RECORD, "embeddings": rows[:1], "text": rows[1:], "controls": [guide], "given_prediction": "velocity"}
    found = from_record(json.dumps(record))
    again = find_again(found, folder / "model.safetensors")
    assert again.missed == {}
    assert again.extras == Extras(embeddings=(Path("a.safetensors"),), text=(Path("b.safetensors"),), prediction="velocity")
    expected = Guide(net=Path("nets/c.safetensors"), picture=Path("pose.png"), weight=0.1234567890123, start=0.25, end=0.5, prepare="canny")
    assert again.controls == (expected,)
    none = find_again(found, folder / "model.safetensors", given=("embedding", "text", "control", "prediction"))
    assert none.extras == Extras() and none.controls == () and none.missed == {}
    (folder / "pose.png").unlink()
    assert find_again(found, folder / "model.safetensors").missed == {"control 0": "control pose.png: not found; --control gives it"}


def test_what_is_given_takes_its_place(folder: Path) -> None:
    write(folder / "a.safetensors")
    again = find_again(Provenance(source="a1111", loras=(Lora(name="a", weight=0.5),)), folder)
    assert again.extras.adapters == ((Path(folder / "a.safetensors"), 0.5),)
    assert again.join(Extras()).adapters == again.extras.adapters
    assert again.join(Extras(adapters=(("b", 1.0),))).adapters == (("b", 1.0),)


def test_the_same_name_with_another_content_elsewhere_does_no_harm(folder: Path) -> None:
    path, other = write(folder / "loras" / "a.safetensors", 1), write(folder / "models" / "a.safetensors", 2)
    lora = Lora(name="a", weight=1.0, file="somewhere/a.safetensors", sha256=hash_file(path))
    found = Provenance(source="eightfold", loras=(lora,))
    assert find_again(found, folder / "models" / "m.safetensors").extras.adapters == ((path, 1.0),)
    path.unlink()
    with pytest.raises(CheckpointError, match="is not what it was") as caught:
        find_again(found, folder / "models" / "m.safetensors")
    assert str(other) in str(caught.value) and "--lora" in caught.value.hint


@pytest.mark.parametrize(
    ("source", "said", "skips"),
    [  # of the families that read the last layer, the one before it (Stable Diffusion 2 and XL), and words
        ("a1111", None, (0, 0, 0, 0)),
        ("a1111", 1, (0, 0, 0, 0)),
        ("a1111", 2, (1, 0, 0, None)),
        ("a1111", 3, (2, 0, 0, None)),
        ("comfyui", 2, (1, 0, 0, None)),
        ("comfyui", 3, (2, 1, 1, None)),
        ("eightfold", 3, (2, 1, 1, None)),
        ("a1111", 50, (None, 0, 0, None)),
    ],
)
def test_clip_skip(source: str, said: int | None, skips: tuple[int | None, ...]) -> None:
    found = Provenance(source=source, clip_skip=said)
    assert tuple(to_skip(found, family.text) for family in (SD1, SD2, SDXL_FAMILY, POCKET_FAMILY)) == skips


def test_a_skip_of_ours_comes_back() -> None:
    for family in (SD1, SD2, SDXL_FAMILY):
        for skip in (0, 1, 3):
            found = from_record(json.dumps({**RECORD, **Extras(skip=skip).to_record(family.text)}))
            assert to_skip(found, family.text) == skip
