"""Networks that are told their guidance: known by the tensor that reads it, and asked once a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from eightfold.core.errors import RequestError
from eightfold.families.sd1 import SD1, TOLD
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.pipelines.bundle import Model, load
from eightfold.pipelines.generate import GenerationStep
from eightfold.pipelines.request import Request
from eightfold.specs.family import Edition
from eightfold.specs.mark import Mark
from toymodels import TOY, XL, know, write_model
from toytowers import BOTH

FAST = replace(SDXL_FAMILY.editions[1], marks=(Mark("conv_in.weight"), Mark(TOLD)), denoiser=replace(TOY, guidance=16))
CUBE = Request(prompt="a red cube", size=(48, 32))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    know(monkeypatch, replace(XL, editions=(Edition(name="base", marks=(Mark(TOLD, absent=True),)), FAST)))
    return load(write_model(tmp_path / "fast.safetensors", replace(TOY, guidance=16), BOTH), device="cpu")


def finish(model: Model, request: Request) -> GenerationStep:
    *_, last = model.generate(request)
    return last


def test_it_is_known_and_drawn_as_it_was_distilled(model: Model) -> None:
    assert (model.edition, FAST.name) == ("lcm", "lcm")
    assert model.family.defaults == FAST.defaults
    plan = finish(model, CUBE).job.plan
    assert (plan.steps, plan.sampler, plan.grid, plan.guidance) == (4, "lcm", "lcm", 8.0)


def test_it_is_asked_once_and_told_the_scale(model: Model) -> None:
    seen: list[tuple[int, Tensor]] = []

    def look(noisy: Tensor, timestep: Tensor, tokens: Tensor, vector: Tensor, added: object, *, guidance: Tensor) -> Tensor:
        seen.append((len(tokens), guidance))
        return model.denoiser(noisy, timestep, tokens, vector, guidance=guidance)

    told = finish(replace(model, denoiser=look), replace(CUBE, guidance=3.0))  # type: ignore[arg-type]
    assert [rows for rows, _ in seen] == [1] * 4 and all(torch.equal(scale, torch.tensor([3.0])) for _, scale in seen)
    assert torch.equal(told.noisy, finish(model, replace(CUBE, guidance=3.0)).noisy)
    assert not torch.equal(told.noisy, finish(model, replace(CUBE, guidance=4.0)).noisy)


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"negative": "a ball"}, "a negative prompt"), ({"rescale": 0.7}, "a rescale"), ({"interval": (0.1, 0.9)}, "an interval")],
)
def test_what_would_do_nothing_is_refused(model: Model, changes: dict[str, object], name: str) -> None:
    with pytest.raises(RequestError, match=f"{name} has no effect on this model") as caught:
        model.generate(replace(CUBE, **changes))  # type: ignore[arg-type]
    assert caught.value.hint


def test_guidance_that_cannot_be(model: Model) -> None:
    with pytest.raises(RequestError, match="guidance: -1"):
        model.generate(replace(CUBE, guidance=-1.0))
    with pytest.raises(RequestError, match="51 steps on the grid lcm, which has 50"):
        model.generate(replace(CUBE, steps=51))


def test_a_network_without_its_guidance_says_so(model: Model) -> None:
    with pytest.raises(ValueError, match="told its guidance"):
        model.denoiser(torch.zeros(1, 4, 4, 4), torch.zeros(1), torch.zeros(1, 3, 48), torch.zeros(1, 68))


def test_the_published_ones_differ_from_the_base_by_one_tensor() -> None:
    for family in (SD1, SDXL_FAMILY):
        base, fast = (family.to_edition(name) for name in ("base", "lcm"))
        assert replace(fast.denoiser, guidance=None) == base.denoiser and fast.denoiser.guidance == 256
        assert (fast.defaults.sampler, fast.defaults.steps, base.defaults.sampler) == ("lcm", 4, "dpm++2m")
