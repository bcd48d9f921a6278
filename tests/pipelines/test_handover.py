"""A refiner takes over: one run of two models, and what is no refiner."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

import eightfold as ef
from eightfold.codec.pixels import Picture
from eightfold.core.errors import CheckpointError, EightfoldError, RequestError, UnknownCheckpoint
from eightfold.diffusion.moves import Moment
from eightfold.pipelines.bundle import Model, load
from eightfold.pipelines.extras import Extras
from eightfold.pipelines.generate import GenerationStep, list_legs, resolve
from eightfold.pipelines.guided import build_denoise
from eightfold.pipelines.request import Request
from eightfold.pipelines.walk import walk_prompts
from pocketfile import write_vae
from toymodels import TOY, TOY_REFINER, XL, know, write_model
from toytowers import BOTH, REFINER

CUBE = Request(prompt="a red cube", size=(48, 32), steps=8, seed=3, grid="trailing", sampler="euler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, refiners with and without a text tower of their own, and files that are none."""
    path = tmp_path_factory.mktemp("models")
    write_model(path / "base.safetensors", TOY, BOTH)
    write_model(path / "refiner.safetensors", TOY_REFINER, REFINER, seed=2)
    write_model(path / "bare.safetensors", TOY_REFINER, None, seed=2, vae=False)
    write_model(path / "velocity.safetensors", TOY, BOTH, marks=[("ztsnr", torch.zeros(1)), ("v_pred", torch.zeros(1))])
    write_vae(path / "vae.safetensors")
    return path


def load_both(folder: Path, refiner: str = "refiner.safetensors", base: str = "base.safetensors") -> Model:
    return load(folder / base, device="cpu", extras=Extras(refiner=folder / refiner))


@pytest.fixture
def both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    know(monkeypatch, XL)
    return load_both(folder)


def to_own(model: Model) -> Model:
    """The model as its own refiner."""
    return replace(model, refiner=replace(model, family=replace(model.family, handover=0.5)))


def finish(model: Model, request: Request) -> GenerationStep:
    *_, last = model.generate(request)
    return last


@pytest.mark.parametrize("sampler", ["euler", "ddim", "euler-ancestral", "heun", "lcm"])
@pytest.mark.parametrize("handover", [0.2, None, 0.8])
def test_a_model_that_hands_over_to_itself_draws_the_same(model: Model, sampler: str, handover: float | None) -> None:
    """To the bit: with the same state, times and noise."""
    request = replace(CUBE, sampler=sampler, count=2)
    plain = finish(model, request)
    refined = finish(to_own(model), replace(request, handover=handover))
    assert refined.total == plain.total == 16
    assert all(torch.equal(one.image, other.image) for one, other in zip(plain.images, refined.images, strict=True))


def test_what_a_mask_keeps_is_kept_in_both_parts(model: Model) -> None:
    picture = Picture(torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1)
    mask = torch.full((1, 3, 32, 48), -1.0)
    mask[..., :24] = 1
    request = replace(CUBE, start=picture, mask=Picture(mask), size=None, strength=0.8, sampler="euler-ancestral")
    plain, refined = finish(model, request), finish(to_own(model), replace(request, handover=0.5))
    assert torch.equal(plain.noisy, refined.noisy)
    assert torch.equal(refined.images[0].image[..., 24:], picture.image[..., 24:])


def test_every_pass_is_handed_over(both: Model) -> None:
    """The refiner makes the moves from times up to 1 - handover; where a pass begins below, all of them."""
    outline = resolve(both, replace(CUBE, enlarge=2.0, enlarge_strength=0.5, handover=0.6))
    parts = [(leg.width, leg.moves, leg.before, leg.whole, leg.refines) for leg in outline.legs]
    assert parts == [(24, 5, 0, 8, False), (24, 3, 5, 8, True), (48, 1, 0, 4, False), (48, 3, 1, 4, True)]
    assert [leg.times[0] for leg in outline.legs] == [1.0, 0.375, 0.5, 0.375]
    (only,) = resolve(both, replace(CUBE, handover=0.5, start=Picture(torch.zeros(1, 3, 32, 48)), strength=0.5)).legs
    assert only.refines and not only.goes_on and only.times[0] == 0.5
    assert finish(both, replace(CUBE, enlarge=2.0, enlarge_strength=0.5)).total == 12


def test_each_is_told_what_it_reads(both: Model) -> None:
    """The refiner by its own tower, with how the picture is to look and not to look."""
    assert both.refiner is not None and both.refiner.family.handover == 0.8
    seen: list[tuple[str, Tensor, Tensor]] = []

    def watch(name: str, model: Model) -> Model:
        def look(noisy: Tensor, timestep: Tensor, tokens: Tensor, vector: Tensor, added: object) -> Tensor:
            seen.append((name, tokens, vector))
            return model.denoiser(noisy, timestep, tokens, vector)

        return replace(model, denoiser=look)  # type: ignore[arg-type]

    finish(replace(watch("base", both), refiner=watch("refiner", both.refiner)), replace(CUBE, negative="a ball"))
    assert [name for name, *_ in seen] == ["base"] * 7 + ["refiner"]
    (_, tokens, vector), (_, own, beside) = seen[0], seen[-1]
    assert tokens.shape == (2, 77, 48) and vector.shape == (2, 68)
    assert torch.equal(own, tokens[..., 16:]) and beside.shape == (2, 60)
    assert torch.equal(beside[:, :20], vector[:, :20])  # the same tower in both files
    assert torch.allclose(beside[:, 52], torch.tensor([6.0, 2.5]).cos()) and torch.equal(beside[0, 20:52], beside[1, 20:52])


def test_the_bases_tower_is_shared_where_the_refiner_has_none(folder: Path, both: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, XL)
    shared = load_both(folder, "bare.safetensors")
    assert shared.refiner is not None and shared.refiner.text.towers[0] is shared.text.towers[1]  # type: ignore[attr-defined]
    assert shared.refiner.codec is shared.codec
    assert torch.equal(finish(shared, CUBE).noisy, finish(both, CUBE).noisy)
    assert not torch.equal(finish(shared, CUBE).noisy, finish(replace(shared, refiner=None), CUBE).noisy)


def test_controls_speak_in_shares_of_the_whole_pass(both: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not to the refiner, for which they were not made."""
    told: list[tuple[int, int]] = []

    def listen(controls: object, *given: object, step: int, steps: int) -> None:
        told.append((step, steps))

    class Shown:
        def to_control(self, width: int, height: int, downscale: int) -> str:
            return "a control"

    monkeypatch.setattr("eightfold.pipelines.guided.sum_controls", listen)
    steps = list(both.generate(replace(CUBE, handover=0.5, enlarge=2.0, enlarge_strength=0.75)))
    job = replace(steps[0].job, guides=(Shown(),))  # type: ignore[arg-type]
    for leg in job.legs:
        denoise = build_denoise(job, leg, None)
        for index, (t, next_t) in enumerate(pairwise(leg.times)):
            denoise(torch.zeros(1, 4, leg.height // 8, leg.width // 8), Moment(index, t, next_t))
    assert told == [(0, 8), (1, 8), (2, 8), (3, 8), (0, 6), (1, 6)]


def test_a_picture_says_who_finished_it(both: Model) -> None:
    assert both.refiner is not None
    picture = finish(both, CUBE).images[0]
    record = json.loads(picture.metadata["eightfold"])
    assert (record["handover"], record["refiner"], record["refiner_fingerprint"]) == (0.8, "refiner.safetensors", both.refiner.fingerprint)
    assert "Refiner: refiner.safetensors, Refiner switch at: 0.8" in picture.metadata["parameters"]
    plain = json.loads(finish(replace(both, refiner=None, extras=Extras()), CUBE).images[0].metadata["eightfold"])
    assert plain["handover"] is None and not {"refiner", "refiner_fingerprint"} & plain.keys()


def test_a_walk_of_both(both: Model) -> None:
    frames = list(walk_prompts(both, CUBE, replace(CUBE, prompt="a blue ball"), 3))
    alone = [finish(both, replace(CUBE, prompt=prompt)).images[0].image for prompt in ("a red cube", "a blue ball")]
    assert torch.equal(frames[0].latent, alone[0]) and torch.equal(frames[2].latent, alone[1])
    assert not torch.equal(frames[1].latent, alone[0])


@pytest.mark.parametrize("handover", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_handover_that_cannot_be(handover: float) -> None:
    with pytest.raises(RequestError, match="more than 0, less than 1"):
        replace(CUBE, handover=handover)


def test_a_handover_to_nobody(model: Model, both: Model) -> None:
    with pytest.raises(RequestError, match="no refiner that could take over") as caught:
        model.generate(replace(CUBE, handover=0.5))
    assert "--refiner" in caught.value.hint
    with pytest.raises(RequestError, match=r"the last of the 4 steps begins at the time 0\.250"):
        both.generate(replace(CUBE, steps=4))
    assert [leg.moves for leg in list_legs(both, resolve(both, replace(CUBE, steps=5)).plan)] == [4, 1]


@pytest.mark.parametrize(
    ("refiner", "base", "message", "kind"),
    [
        ("base.safetensors", "base.safetensors", r"base\.safetensors is no refiner: it is a sdxl model \(base\)", CheckpointError),
        ("refiner.safetensors", "refiner.safetensors", "is a refiner itself", CheckpointError),
        ("refiner.safetensors", "velocity.safetensors", "other noise levels", CheckpointError),
        ("vae.safetensors", "base.safetensors", "the denoiser of no known model", UnknownCheckpoint),
        ("gone.safetensors", "base.safetensors", r"gone\.safetensors", EightfoldError),
    ],
)
def test_what_is_no_refiner(
    folder: Path, monkeypatch: pytest.MonkeyPatch, refiner: str, base: str, message: str, kind: type[EightfoldError]
) -> None:
    know(monkeypatch, XL)
    with pytest.raises(kind, match=message) as caught:
        load_both(folder, refiner, base)
    assert caught.value.hint


def test_a_refiner_of_another_family(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(XL, name="other", editions=XL.editions[1:])
    know(monkeypatch, replace(XL, editions=XL.editions[:1]), other)
    with pytest.raises(CheckpointError, match=r"is a other model \(refiner\), and .* a sdxl model"):
        load_both(folder)


def test_a_model_that_reads_no_text_of_its_own_has_no_refiner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eightfold.families.pocket import POCKET_FAMILY

    know(monkeypatch, XL, POCKET_FAMILY)
    with pytest.raises(CheckpointError, match=r"is a sdxl model .* a pocket model"):
        ef.load("pocket", extras=Extras(refiner=folder / "refiner.safetensors"))
