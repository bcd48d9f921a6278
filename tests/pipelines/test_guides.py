"""ControlNets of a request: looked at before anything is loaded, and prepared once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from controlfiles import build_toy, to_toy
from eightfold.checkpoints.filehash import hash_file
from eightfold.codec.pixels import Picture
from eightfold.core.device import choose_placement
from eightfold.core.errors import CheckpointError, EightfoldError, ImageError, RequestError, UnknownName
from eightfold.denoisers.unet import UNet
from eightfold.families.sd1 import SD1
from eightfold.families.sd2 import SD2
from eightfold.pipelines import guides
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.generate import generate, resolve
from eightfold.pipelines.request import Guide, Request
from eightfold.text.condition import Condition
from toyspaces import TOYS, build_toy_codec
from weights import draw, randomise


class Told:
    """In place of the text towers."""

    def check(self, prompt: str, *, ignore_unknown: bool = False) -> None: ...

    def encode(self, prompts: Sequence[str]) -> Condition:
        return Condition(draw(len(prompts), 5, 768))

    def encode_pair(self, prompt: str, negative: str | None = None) -> tuple[Condition, Condition]:
        return self.encode([prompt]), self.encode([prompt])

    def count_tokens(self, prompt: str) -> int:
        return 3


@pytest.fixture(scope="module")
def model() -> Model:
    family = replace(SD1, denoiser=to_toy(SD1.denoiser), space=TOYS["sd"])
    found = Model(
        family=family,
        edition="base",
        codec=build_toy_codec(TOYS["sd"]),
        denoiser=randomise(UNet(family.denoiser), seed=1),
        text=Told(),
        placement=choose_placement("cpu"),
        source="toy",
    )
    vars(found)["fingerprint"] = "toy"
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    save_file(build_toy(SD1), folder / "sd1.safetensors")
    save_file(build_toy(SD2), folder / "sd2.safetensors")
    Picture(draw(1, 3, 32, 32).tanh()).save(folder / "pose.png")
    return folder


def ask(folder: Path, **changes: object) -> Request:
    guide = replace(Guide(net=folder / "sd1.safetensors", picture=folder / "pose.png"), **changes)
    return Request(prompt="x", size=(32, 32), steps=2, controls=(guide,))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"net": "sd2.safetensors"}, CheckpointError, "is a ControlNet for sd2 "),
        ({"net": "pose.png"}, CheckpointError, "pose.png"),
        ({"picture": "nothing.png"}, ImageError, "nothing.png"),
        ({"prepare": "cany"}, UnknownName, "did you mean canny"),
        ({"start": 0.5, "end": 0.5}, RequestError, "control from 0.5 to 0.5"),
        ({"weight": float("nan")}, RequestError, "control weight nan"),
    ],
)
def test_what_cannot_be_is_refused_before_any_weight_is_read(
    model: Model, folder: Path, changes: dict[str, object], error: type[EightfoldError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eightfold.pipelines.control.read_tensors", lambda *_: pytest.fail("weights were read"))
    changes = {name: folder / value if isinstance(value, str) and "." in value else value for name, value in changes.items()}
    with pytest.raises(error) as caught:
        resolve(model, ask(folder, **changes))
    assert message in f"{caught.value} {caught.value.hint}"
    (guide,) = resolve(model, ask(folder)).guides
    assert isinstance(guide.picture, Picture)


def test_a_picture_is_prepared_once_for_each_size(model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    plain = guides.preprocess

    def count(name: str, picture: Picture) -> Picture:
        sizes.append((picture.width, picture.height))
        return plain(name, picture)

    monkeypatch.setattr(guides, "preprocess", count)
    request = replace(ask(folder, weight=0.5, end=0.4), count=2, enlarge=2, size=(32, 64), prompt="x AND y")
    *_, last = generate(model, request)
    assert sorted(sizes) == [(16, 32), (32, 64)]
    assert len(last.images) == 2 and all("pose.png is 32x32: stretched to 32x64" in " ".join(one.warnings) for one in last.images)
    assert all("the prompt: AND is read as plain text" in " ".join(one.warnings) for one in last.images)
    (said,) = json.loads(last.images[0].metadata["eightfold"])["controls"]
    files = {"net": str(folder / "sd1.safetensors"), "picture": str(folder / "pose.png")}
    hashes = {"sha256": hash_file(folder / "sd1.safetensors"), "picture_sha256": hash_file(folder / "pose.png")}
    assert said == {**files, **hashes, "weight": 0.5, "start": 0.0, "end": 0.4, "prepare": "none"}
    monkeypatch.undo()
    alone = [*generate(model, replace(request, count=1, seed=1))][-1]
    assert torch.equal(alone.images[0].image, last.images[1].image)
