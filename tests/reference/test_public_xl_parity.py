"""Whole runs of Stable Diffusion 2 (velocity) and XL at their public width against diffusers' pipelines, on the very same tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_generation_parity import build_model, build_pipeline, build_scheduler, compare, draw_noise, finish, run_theirs

from eightfold.core.memory import measure_free
from eightfold.families.sd2 import SD2
from eightfold.families.sdxl import SDXL_FAMILY

pytestmark = pytest.mark.long

SIZE, STEPS = (128, 128), 4
OURS: dict[str, Any] = {"size": SIZE, "steps": STEPS, "noise_source": "diffusers"}
THEIRS: dict[str, Any] = {"num_inference_steps": STEPS, "width": SIZE[0], "height": SIZE[1]}
NEEDED = 12e9  # bytes for the U-Net of XL in float32, and what runs need beside it


@torch.no_grad()
def test_stable_diffusion_2() -> None:
    model = build_model(SD2, SD2.denoiser, "velocity")
    pipeline = build_pipeline("StableDiffusionPipeline", model, build_scheduler(model, clip_sample=False))
    compare(finish(model, **OURS).noisy, run_theirs(pipeline, model, latents=draw_noise(SIZE), **THEIRS))


@torch.no_grad()
def test_stable_diffusion_xl() -> None:
    free = measure_free()
    if free is not None and free < NEEDED:
        pytest.skip(f"{free / 1e9:.1f} GB of memory are free, and {NEEDED / 1e9:.0f} are needed")
    model = build_model(SDXL_FAMILY, SDXL_FAMILY.denoiser)
    pipeline = build_pipeline("StableDiffusionXLPipeline", model, build_scheduler(model, clip_sample=False))
    width = type("Config", (), {"projection_dim": 1280})()
    pipeline.text_encoder_2 = type("Projected", (), {"dtype": torch.float32, "config": width})()
    compare(finish(model, **OURS).noisy, run_theirs(pipeline, model, latents=draw_noise(SIZE), **THEIRS))
