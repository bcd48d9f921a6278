"""The denoising loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from eightfold.checkpoints.load import read_tensors
from eightfold.checkpoints.save import write_safetensors
from eightfold.core.errors import CheckpointError, EightfoldError, RequestError, SpaceMismatch, UnknownName, UnknownWord
from eightfold.diffusion.grid import GRIDS
from eightfold.diffusion.samplers import SAMPLERS
from eightfold.families.catalog import FAMILIES
from eightfold.families.spaces import FLUX2, HUNYUAN_REFINER, PIXELS, SD
from eightfold.pipelines.bundle import Model, load
from eightfold.pipelines.generate import GenerationStep, NoiseStream
from eightfold.pipelines.request import Request, to_plan
from eightfold.specs.family import Family
from eightfold.specs.space import Space
from pocketfile import write_vae

CUBE = Request(prompt="a red cube", size=(32, 24), steps=3)


def finish(model: Model, request: Request) -> GenerationStep:
    *_, last = model.generate(request)
    return last


@pytest.mark.parametrize(
    ("sampler", "grid"), [*((sampler, "trailing") for sampler in SAMPLERS), *(("dpm++2m", grid) for grid in GRIDS if grid != "ays")]
)
def test_every_sampler_and_grid(model: Model, sampler: str, grid: str) -> None:
    steps = list(model.generate(replace(CUBE, sampler=sampler, grid=grid)))
    assert [step.number for step in steps] == [1, 2, 3]
    assert {step.total for step in steps} == {3}
    assert [step.is_last for step in steps] == [False, False, True]
    image = steps[-1].images[0].image
    assert image.shape == (1, 3, 24, 32) and image.dtype == torch.float32
    assert torch.isfinite(image).all() and image.abs().max() <= 1 and image.std() > 0


def test_steps_of_several_pictures(model: Model) -> None:
    steps = list(model.generate(replace(CUBE, count=2, seed=5)))
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.seed for step in steps] == [5, 5, 5, 6, 6, 6]
    assert [len(step.images) for step in steps] == [0, 0, 1, 1, 1, 2]
    assert all(step.noisy.shape == step.clean.shape == (1, 4, 3, 4) for step in steps)
    assert torch.equal(steps[2].images[0].image, steps[5].images[0].image)
    assert torch.equal(steps[5].decode().image, steps[5].images[1].image)  # the last estimate is the picture
    assert not torch.equal(steps[3].decode().image, steps[5].decode().image)


@pytest.mark.parametrize("sampler", ["ddpm", "heun"])
def test_a_picture_is_the_same_in_any_company(model: Model, sampler: str) -> None:
    request = replace(CUBE, sampler=sampler, seed=1, count=3)
    together = finish(model, request).images
    alone = [finish(model, replace(request, seed=seed, count=1)).images[0] for seed in (1, 2, 3)]
    assert all(torch.equal(one.image, other.image) for one, other in zip(together, alone, strict=True))
    assert len({one.image.numpy().tobytes() for one in together}) == 3


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize(("size", "latent"), [((512, 512), (64, 64)), ((512, 768), (96, 64)), ((451, 300), (38, 57)), ((1, 1), (1, 1))])
def test_noise_has_the_latents_shape(family: Family, size: tuple[int, int], latent: tuple[int, int]) -> None:
    whole = SimpleNamespace(codec=SimpleNamespace(space=family.space), placement=SimpleNamespace(device="cpu"))
    plan = to_plan(Request(prompt="x", size=size), family)
    noise = NoiseStream(cast(Model, whole), plan, 3)
    first, second = noise.draw(), noise.draw()
    assert first.shape == (1, 4, *latent)  # 512 wide and 768 high is 4x96x64
    assert not torch.equal(first, second)
    assert torch.equal(first, NoiseStream(cast(Model, whole), plan, 3).draw())


@pytest.mark.parametrize(("space", "latent"), [(FLUX2, (128, 3, 2)), (HUNYUAN_REFINER, (64, 3, 2)), (PIXELS, (3, 40, 24))])
def test_noise_of_packed_latents_is_packed(space: Space, latent: tuple[int, int, int]) -> None:
    whole = SimpleNamespace(codec=SimpleNamespace(space=space), placement=SimpleNamespace(device="cpu"))
    plan = to_plan(Request(prompt="x", size=(24, 40)), FAMILIES[0])
    assert NoiseStream(cast(Model, whole), plan, 3).draw().shape == (1, *latent)


@pytest.mark.parametrize("size", [(1, 1), (9, 17), (40, 8)])
def test_pictures_have_the_size_asked_for(model: Model, size: tuple[int, int]) -> None:
    picture = finish(model, replace(CUBE, size=size, steps=1)).images[0]
    assert (picture.width, picture.height) == size


def test_words_and_guidance_matter(model: Model) -> None:
    def draw(**changes: Any) -> torch.Tensor:
        return finish(model, replace(CUBE, **changes)).noisy

    plain = draw(guidance=1.0)
    with pytest.raises(RequestError, match="no effect at guidance 1"):
        draw(guidance=1.0, negative="a blue ball")
    assert not torch.equal(plain, draw(guidance=1.0, prompt="a blue ball"))
    assert not torch.equal(plain, draw(guidance=3.0))
    assert not torch.equal(draw(guidance=3.0), draw(guidance=3.0, negative="a blue ball"))
    assert torch.allclose(draw(guidance=0.0), draw(guidance=1.0, prompt=""), atol=1e-4)  # 0 ignores the prompt


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"sampler": "eulr"}, UnknownName),
        ({"grid": "karas"}, UnknownName),
        ({"steps": 0}, RequestError),
        ({"size": (0, 8)}, RequestError),
        ({"guidance": -1.0}, RequestError),
        ({"eta": 0.5}, RequestError),
        ({"prompt": "a zebra"}, UnknownWord),
        ({"negative": "a zebra"}, UnknownWord),
        ({"prompt": "cube " * 40}, RequestError),
    ],
)
def test_mistakes_come_before_the_first_step(model: Model, change: dict[str, Any], error: type[EightfoldError]) -> None:
    with pytest.raises(error) as caught:
        model.generate(replace(CUBE, **change))  # not even asked for a step
    assert caught.value.hint


def test_values_that_are_not_finite_are_named(model: Model) -> None:
    def explode(*inputs: torch.Tensor) -> torch.Tensor:
        return torch.full_like(inputs[0], float("inf"))

    broken = replace(model, denoiser=cast(Any, explode))
    with pytest.raises(EightfoldError, match=r"not finite at t = 1\.000, in float32") as caught:
        next(broken.generate(CUBE))
    assert "float32" in caught.value.hint


def test_unknown_words_count_as_one_word_without_a_meaning(model: Model) -> None:
    with_zebra = finish(model, replace(CUBE, prompt="a red zebra", ignore_unknown=True))
    with_quagga = finish(model, replace(CUBE, prompt="a red quagga", ignore_unknown=True))
    assert torch.equal(with_zebra.noisy, with_quagga.noisy)
    assert not torch.equal(with_zebra.noisy, finish(model, CUBE).noisy)


def test_another_autoencoder_of_the_same_space(model: Model, tmp_path: Path) -> None:
    swapped = load("pocket", vae=write_vae(tmp_path / "vae.safetensors"), device="cpu")
    assert swapped.codec.source.endswith("vae.safetensors")
    assert torch.equal(finish(swapped, CUBE).images[0].image, finish(model, CUBE).images[0].image)


def test_an_autoencoder_of_another_space_is_refused(tmp_path: Path) -> None:
    tensors = {mark.key: torch.zeros([size or 1 for size in mark.shape or (1,)]) for mark in SD.marks if not mark.absent}
    write_safetensors(tmp_path / "x.safetensors", tensors, {}, overwrite=False)
    with pytest.raises(SpaceMismatch, match=r"x\.safetensors.* space sd or sdxl.*space pocket"):
        load("pocket", vae=tmp_path / "x.safetensors")


def test_a_denoiser_alone_is_no_model(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "denoiser.safetensors"
    write_safetensors(path, read_tensors(model.source, "denoiser."), {}, overwrite=False)
    with pytest.raises(CheckpointError, match="pocket denoiser alone") as caught:
        load(path)
    assert "pocket" in caught.value.hint


def test_models_by_name() -> None:
    with pytest.raises(UnknownName, match="unknown model 'pokcet'") as caught:
        load("pokcet")
    assert "pocket" in caught.value.hint
    with pytest.raises(CheckpointError, match="cannot read"):
        load("pokcet.safetensors")
