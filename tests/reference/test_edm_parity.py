"""Fine-tunes of Stable Diffusion XL that were trained as EDM describes, in whole runs against diffusers' pipeline and schedulers."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import pytest
import torch
from test_generation_parity import SIZE, XL, build_model, build_pipeline, compare, draw_noise, finish, run_theirs
from test_unet_parity import VECTOR

from eightfold.families.processes import COSXL_PROCESS, PLAYGROUND_PROCESS
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.specs.family import Prediction
from eightfold.specs.process import Edm

NAMES = ("height", "width", "top", "left", "target_height", "target_width")
COSXL = {"sigma_data": 1.0, "sigma_max": 120.0, "prediction_type": "v_prediction"}
PLAYGROUND = {"sigma_data": 0.5, "sigma_max": 80.0, "prediction_type": "epsilon"}


@pytest.mark.parametrize(
    ("process", "prediction", "sampler", "grid", "scheduler", "options"),
    [
        (COSXL_PROCESS, "velocity", "euler", "exponential", "EDMEulerScheduler", {**COSXL, "sigma_schedule": "exponential"}),
        (COSXL_PROCESS, "velocity", "dpm++2m", "karras", "EDMDPMSolverMultistepScheduler", COSXL),
        (PLAYGROUND_PROCESS, "edm", "euler", "karras", "EDMEulerScheduler", PLAYGROUND),
        (PLAYGROUND_PROCESS, "edm", "dpm++2m", "karras", "EDMDPMSolverMultistepScheduler", PLAYGROUND),
    ],
)
@torch.no_grad()
def test_a_whole_run(process: Edm, prediction: Prediction, sampler: str, grid: str, scheduler: str, options: dict[str, object]) -> None:
    """Their latents are `spread` times ours: they keep the standard deviation that EDM has them at."""
    model = build_model(replace(SDXL_FAMILY, process=process), replace(XL, vector=replace(VECTOR, numbers=NAMES)), prediction)
    pipeline = build_pipeline("StableDiffusionXLPipeline", model, getattr(diffusers, scheduler)(sigma_min=0.002, **options))
    config = type("Config", (), {"projection_dim": VECTOR.pooled})()
    pipeline.text_encoder_2 = type("Projected", (), {"dtype": torch.float32, "config": config})()
    expected = run_theirs(pipeline, model, latents=draw_noise(), width=SIZE[0], height=SIZE[1])
    compare(process.spread * finish(model, noise_source="diffusers", sampler=sampler, grid=grid).noisy, expected)
