"""A base and a refiner against two pipelines of diffusers, one behind the other: the last latents agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_generation_parity import SIZE, XL, build_model, build_pipeline, build_scheduler, compare, finish, run_theirs
from test_unet_parity import VECTOR
from torch import Tensor

from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.pipelines.bundle import Model
from eightfold.specs.network import VectorConfig
from eightfold.text.condition import Condition
from weights import draw, randomise

NUMBERS = ("height", "width", "top", "left")
BASE = VectorConfig(pooled=VECTOR.pooled, numbers=(*NUMBERS, "target_height", "target_width"), sinusoid=8)
REFINER = VectorConfig(pooled=VECTOR.pooled, numbers=(*NUMBERS, "aesthetic_score"), sinusoid=8)


def build_both() -> tuple[Model, Model]:
    """With other weights and other words for each."""
    base = build_model(SDXL_FAMILY, replace(XL, vector=BASE))
    refiner = build_model(SDXL_FAMILY.to_edition("refiner"), replace(XL, vector=REFINER))
    randomise(refiner.denoiser, seed=21)
    told: Any = refiner.text
    told.positive, told.negative = (
        Condition(draw(1, 5, XL.context, seed=seed), draw(1, VECTOR.pooled, seed=seed + 9)) for seed in (17, 18)
    )
    return base, refiner


def build_pipelines(base: Model, refiner: Model, kind: str, **options: Any) -> tuple[Any, Any]:
    config = type("Config", (), {"projection_dim": VECTOR.pooled})()
    pipelines = []
    for name, model in (("StableDiffusionXLPipeline", base), ("StableDiffusionXLImg2ImgPipeline", refiner)):
        pipeline = build_pipeline(name, model, build_scheduler(model, kind, **options))
        pipeline.text_encoder_2 = type("Projected", (), {"dtype": torch.float32, "config": config})()
        pipelines.append(pipeline)
    pipelines[1].register_to_config(requires_aesthetics_score=True)
    return pipelines[0], pipelines[1]


@pytest.mark.parametrize(
    ("sampler", "handover", "kind", "options"),
    [
        ("ddim", 0.8, "DDIMScheduler", {"clip_sample": False}),
        ("ddim", 0.4, "DDIMScheduler", {"clip_sample": False}),
        ("euler", 0.8, "EulerDiscreteScheduler", {}),
        ("euler-ancestral", 0.6, "EulerAncestralDiscreteScheduler", {}),
    ],
)
@torch.no_grad()
def test_both(sampler: str, handover: float, kind: str, options: dict[str, Any]) -> None:
    base, refiner = build_both()
    first, second = build_pipelines(base, refiner, kind, **options)
    generator = torch.Generator().manual_seed(5)
    noisy = run_theirs(first, base, generator=generator, denoising_end=handover, width=SIZE[0], height=SIZE[1])
    expected = run_theirs(second, refiner, image=noisy, generator=generator, denoising_start=handover)
    found = finish(join(base, refiner), noise_source="diffusers", sampler=sampler, handover=handover).noisy
    compare(found, expected)
    assert distance(found, finish(base, noise_source="diffusers", sampler=sampler).noisy) > 0.1


def join(base: Model, refiner: Model) -> Model:
    both = replace(base, refiner=refiner)
    vars(both)["fingerprint"] = "toy"
    return both


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
