"""Whole runs of Stable Diffusion 1.5 at its public width against diffusers' pipelines, which have the very same tensors, not copies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from test_adapter_run_parity import ALPHA, RANK, WEIGHT, draw_layer, merge
from test_control_parity import to_public
from test_generation_parity import SEED, build_model, build_pipeline, build_scheduler, compare, draw_noise, finish, run_theirs
from torch import Tensor

from eightfold.codec.pixels import Picture
from eightfold.denoisers.control import ControlNet
from eightfold.families.sd1 import SD1
from eightfold.nn.lora import attach, list_layers
from eightfold.nn.lowrank import LowRank
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.guides import Loaded
from eightfold.pipelines.request import Guide
from eightfold.specs.control import ControlConfig
from eightfold.specs.network import KLConfig
from weights import draw, randomise

pytestmark = pytest.mark.long

SIZE, STEPS = (192, 128), 4
OURS: dict[str, Any] = {"size": SIZE, "steps": STEPS, "noise_source": "diffusers"}
THEIRS = {"num_inference_steps": STEPS}


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    yield build_model(SD1, SD1.denoiser, autoencoder=cast(KLConfig, SD1.space.autoencoder))


def build(kind: str, model: Model) -> Any:
    scheduler = build_scheduler(model, clip_sample=False)
    return build_pipeline(kind, model, scheduler, cast(KLConfig, SD1.space.autoencoder))


def draw_picture() -> Picture:
    return Picture(draw(1, 3, SIZE[1], SIZE[0], seed=11).clamp(-1, 1))


def encode(model: Model, picture: Picture) -> Tensor:
    return model.codec.normalise(model.codec.encode_start(picture, seed=SEED).raw)


def draw_theirs(model: Model) -> Tensor:
    return run_theirs(build("StableDiffusionPipeline", model), model, latents=draw_noise(SIZE), width=SIZE[0], height=SIZE[1], **THEIRS)


@torch.no_grad()
def test_text_to_image(model: Model) -> None:
    compare(finish(model, **OURS).noisy, draw_theirs(model))


@torch.no_grad()
def test_image_to_image(model: Model) -> None:
    picture, generator = draw_picture(), torch.Generator().manual_seed(SEED)
    pipeline = build("StableDiffusionImg2ImgPipeline", model)
    expected = run_theirs(pipeline, model, image=encode(model, picture), strength=0.75, generator=generator, **THEIRS)
    compare(finish(model, **OURS, start=picture, strength=0.75).noisy, expected)


@torch.no_grad()
def test_inpainting(model: Model) -> None:
    picture, mask = draw_picture(), torch.zeros(1, 1, SIZE[1], SIZE[0])
    mask[..., 16:80, 40:120] = 1
    own = encode(model, picture)
    pipeline = build("StableDiffusionInpaintPipeline", model)
    shared = {"mask_image": mask, "masked_image_latents": own, "width": SIZE[0], "height": SIZE[1], **THEIRS}
    expected = run_theirs(pipeline, model, image=own, strength=0.75, generator=torch.Generator().manual_seed(SEED), **shared)
    white = Picture((mask * 2 - 1).expand(-1, 3, -1, -1))
    compare(finish(model, **{**OURS, "size": None}, start=picture, mask=white, strength=0.75).noisy, expected)


@torch.no_grad()
def test_a_controlnet(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ControlConfig(unet=SD1.denoiser)
    net = randomise(ControlNet(config), seed=7)
    with torch.device("meta"):
        theirs = ControlNetModel(**cast(Any, to_public(config)))
    theirs.load_state_dict(net.state_dict(), strict=True, assign=True)
    parts = build("StableDiffusionPipeline", model).components
    pipeline = StableDiffusionControlNetPipeline(**parts, controlnet=theirs.eval(), requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    shown = draw_picture()
    how = {"controlnet_conditioning_scale": 0.8, "control_guidance_end": 0.75, **THEIRS}
    expected = run_theirs(pipeline, model, image=(shown.image + 1) / 2, latents=draw_noise(SIZE), **how)
    guide = Guide(net=Path("net"), picture=shown, weight=0.8, end=0.75)
    monkeypatch.setattr("eightfold.pipelines.generate.load_guides", lambda *_: (Loaded(guide=guide, net=net, picture=shown),))
    found = finish(model, **OURS, controls=(guide,)).noisy
    compare(found, expected)
    monkeypatch.undo()
    assert (found - finish(model, **OURS).noisy).abs().max() > 0.1


@torch.no_grad()
def test_a_lora(model: Model) -> None:
    """On the layers that trainers change; merged for theirs in place, and taken out again, so that there is one copy."""
    layers = {name: layer for name, layer in list_layers(model.denoiser) if ".attentions." in name}
    drawn = {name: draw_layer(layer, 2 * number) for number, (name, layer) in enumerate(layers.items())}
    changes = {name: LowRank(up=one.up.flatten(1), down=one.down.flatten(1), scale=ALPHA / RANK) for name, one in drawn.items()}
    without = finish(model, **OURS).noisy
    attachment = attach(model.denoiser, changes, WEIGHT)
    found = finish(model, **OURS).noisy
    attachment.remove()
    assert torch.equal(finish(model, **OURS).noisy, without)
    assert (found - without).abs().max() > 0.1
    kept = {name: layer.weight for name, layer in layers.items()}
    merge(model.denoiser, drawn)
    try:
        compare(found, draw_theirs(model))
    finally:
        for name, layer in layers.items():
            layer.weight = kept[name]
