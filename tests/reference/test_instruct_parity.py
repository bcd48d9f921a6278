"""Models that change pictures by instructions, in whole runs against diffusers' pipelines: guided by the text and by the picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_generation_parity import GUIDANCE, SIZE, XL, build_model, build_pipeline, build_scheduler, compare, draw_noise, finish, tell
from test_unet_parity import TWO, VECTOR
from torch import Tensor

from eightfold.codec.pixels import Picture
from eightfold.families.processes import COSXL_PROCESS
from eightfold.families.sd1 import SD1
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.pipelines.bundle import Model
from weights import draw

PICTURE = Picture(draw(1, 3, SIZE[1], SIZE[0], seed=11).clamp(-1, 1))
NAMES = ("height", "width", "top", "left", "target_height", "target_width")


def run_theirs(pipeline: Any, model: Model, picture: Tensor, **changes: Any) -> Tensor:
    shared = {"image": picture, "num_inference_steps": 8, "guidance_scale": GUIDANCE, "output_type": "latent", "latents": draw_noise()}
    return pipeline(**{**shared, **tell(model), **changes}).images


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.5])
@torch.no_grad()
def test_the_one_of_stable_diffusion_1(scale: float) -> None:
    model = build_model(SD1.to_edition("instruct"), replace(TWO, channels=8))
    pipeline = build_pipeline("StableDiffusionInstructPix2PixPipeline", model, build_scheduler(model, clip_sample=False))
    expected = run_theirs(pipeline, model, model.codec.encode(PICTURE).raw, image_guidance_scale=scale)
    found = finish(model, noise_source="diffusers", start=PICTURE, size=None, picture_guidance=None if scale == 1.5 else scale)
    compare(found.noisy, expected)
    assert found.job.plan.picture_guidance == scale


@pytest.mark.parametrize("is_cosxl", [False, True])
@torch.no_grad()
def test_those_of_xl(is_cosxl: bool) -> None:
    """The one of CosXL is shown the normalised latent."""
    own = SDXL_FAMILY.to_edition("instruct")
    family = replace(own, process=COSXL_PROCESS, reads=own.readings[0].reads) if is_cosxl else own
    config = replace(XL, channels=8, vector=replace(VECTOR, numbers=NAMES))
    model = build_model(family, config, "velocity" if is_cosxl else "noise")
    pipeline = build_pipeline("StableDiffusionXLInstructPix2PixPipeline", model, build_their_scheduler(model, is_cosxl))
    pipeline.is_cosxl_edit = is_cosxl
    width = type("Config", (), {"projection_dim": VECTOR.pooled})()
    pipeline.text_encoder_2 = type("Projected", (), {"dtype": torch.float32, "config": width})()
    raw = model.codec.encode(PICTURE).raw
    expected = run_theirs(pipeline, model, raw, image_guidance_scale=1.5, width=SIZE[0], height=SIZE[1])
    options = {"sampler": "euler", "grid": "karras"} if is_cosxl else {}
    compare(finish(model, noise_source="diffusers", start=PICTURE, size=None, **options).noisy, expected)


def build_their_scheduler(model: Model, is_cosxl: bool) -> Any:
    if not is_cosxl:
        return build_scheduler(model, clip_sample=False)
    import diffusers

    return diffusers.EDMEulerScheduler(sigma_data=1.0, sigma_max=120.0, prediction_type="v_prediction")
