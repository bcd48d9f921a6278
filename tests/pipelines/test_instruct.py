"""Models that change pictures by instructions: what they are shown in each row, and what is asked of them in vain."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from eightfold.codec.pixels import Picture
from eightfold.core.errors import RequestError
from eightfold.families.processes import COSXL_PROCESS
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.pipelines.bundle import Model, load
from eightfold.pipelines.generate import GenerationStep
from eightfold.pipelines.request import Request
from toymodels import TOY, XL, know, write_model
from toytowers import BOTH

INSTRUCT = replace(next(one for one in SDXL_FAMILY.editions if one.name == "instruct"), marks=(), denoiser=replace(TOY, channels=8))
START = Picture(torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1)
MORE = Request(prompt="make it red", start=START, steps=3, sampler="euler", grid="trailing", guidance=4.0)
NAN, MASK = float("nan"), torch.full((1, 3, 24, 32), -1.0)
MASK[..., :16] = 1


def build(path: Path, monkeypatch: pytest.MonkeyPatch, **marks: Tensor) -> Model:
    know(monkeypatch, replace(XL, editions=(INSTRUCT,)))
    named = {name.replace("__", "."): tensor for name, tensor in marks.items()}
    return load(write_model(path / "x.safetensors", replace(TOY, channels=8), BOTH, marks=named.items()), device="cpu")


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    return build(tmp_path, monkeypatch)


def watch(model: Model, seen: list[tuple[Tensor, Tensor, Tensor]]) -> Model:
    def look(noisy: Tensor, timestep: Tensor, tokens: Tensor, vector: Tensor, added: object) -> Tensor:
        seen.append((noisy, tokens, vector))
        return model.denoiser(noisy, timestep, tokens, vector)

    return replace(model, denoiser=look)  # type: ignore[arg-type]


def finish(model: Model, request: Request) -> GenerationStep:
    *_, last = model.generate(request)
    return last


def test_three_rows(editor: Model) -> None:
    """The instruction and the picture; the picture; neither."""
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    last = finish(watch(editor, seen), MORE)
    assert len(seen) == 3 and (last.job.plan.strength, last.job.plan.picture_guidance) == (1.0, 1.5)
    noisy, tokens, vector = seen[0]
    raw = editor.codec.encode(START).raw
    assert noisy.shape == (3, 8, 3, 4) and torch.equal(noisy[0, :4], noisy[2, :4])
    assert all(torch.equal(noisy[row, 4:], raw[0]) for row in (0, 1)) and not noisy[2, 4:].any()
    assert not torch.equal(tokens[0], tokens[1]) and torch.equal(tokens[1], tokens[2]) and torch.equal(vector[1], vector[2])
    assert (last.images[0].width, last.images[0].height) == (32, 24)


def test_without_guidance_it_is_asked_once(editor: Model) -> None:
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    finish(watch(editor, seen), replace(MORE, guidance=1.0, picture_guidance=1.0))
    assert [len(tokens) for _, tokens, _ in seen] == [1, 1, 1]
    seen.clear()
    finish(watch(editor, seen), replace(MORE, guidance=1.0, negative="blur"))  # which the picture is weighed against
    assert [len(tokens) for _, tokens, _ in seen] == [3, 3, 3]
    seen.clear()
    finish(watch(editor, seen), replace(MORE, interval=(0.0, 0.5)))
    assert [len(tokens) for _, tokens, _ in seen] == [1, 1, 3]


def test_the_latents_that_cosxl_is_shown_are_normalised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(tmp_path, monkeypatch, edm_vpred__sigma_max=torch.tensor(120.0))
    assert (model.family.reads, model.family.process, model.edition) == (("latent",), COSXL_PROCESS, "instruct")
    scaled = replace(model, codec=replace(model.codec, normalisation=replace(model.codec.normalisation, scale=(0.5,))))
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    finish(watch(scaled, seen), MORE)
    assert torch.allclose(seen[0][0][:1, 4:], scaled.codec.normalise(model.codec.encode(START).raw))
    assert not torch.allclose(seen[0][0][:1, 4:], model.codec.encode(START).raw)


def test_a_mask_and_two_passes(editor: Model) -> None:
    kept = finish(editor, replace(MORE, mask=Picture(MASK), strength=0.7)).images[0].image
    assert torch.equal(kept[..., 16:], START.image[..., 16:]) and not torch.equal(kept[..., :16], START.image[..., :16])
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    last = finish(watch(editor, seen), replace(MORE, size=(64, 48), enlarge=2.0))
    assert [tuple(noisy.shape[2:]) for noisy, *_ in seen] == [(3, 4)] * 3 + [(6, 8)]
    assert all(noisy.shape[1] == 8 and noisy[0, 4:].any() for noisy, *_ in seen)
    assert (last.images[0].width, last.images[0].height) == (64, 48)


def test_it_is_told_in_the_metadata(editor: Model) -> None:
    metadata = finish(editor, replace(MORE, picture_guidance=1.25)).images[0].metadata
    assert json.loads(metadata["eightfold"])["picture_guidance"] == 1.25 and "Image CFG scale: 1.25" in metadata["parameters"]


@pytest.mark.parametrize("scale", [-0.5, NAN, float("inf")])
def test_a_scale_that_cannot_be(editor: Model, scale: float) -> None:
    with pytest.raises(RequestError, match="picture guidance: ") as caught:
        editor.generate(replace(MORE, picture_guidance=scale))
    assert caught.value.hint


def test_what_goes_without(model: Model, editor: Model) -> None:
    with pytest.raises(RequestError, match=r"sdxl model \(instruct\) that is shown a picture") as caught:
        editor.generate(replace(MORE, start=None))
    assert "--start" in caught.value.hint
    with pytest.raises(RequestError, match="not one that changes pictures"):
        model.generate(Request(prompt="a red cube", picture_guidance=1.5))
    assert finish(model, Request(prompt="a red cube", size=(16, 16), steps=1)).job.plan.picture_guidance is None
    deep = replace(model, family=replace(model.family, reads=("depth",)))
    with pytest.raises(RequestError, match="map of depth, which cannot be given"):
        deep.generate(Request(prompt="a red cube", start=START))
