"""Whole runs against diffusers' pipelines: same weights, tokens, noise, steps and sampler; the last latents agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import diffusers
import pytest
import torch
from test_kl_parity import build_theirs as build_their_autoencoder
from test_unet_parity import TWO, VECTOR, build_theirs
from torch import Tensor

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.codec.load import build_codec
from eightfold.codec.pixels import Picture
from eightfold.core.device import choose_placement
from eightfold.denoisers.unet import UNet
from eightfold.families.sd1 import SD1
from eightfold.families.sd2 import SD2
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.generate import GenerationStep, generate
from eightfold.pipelines.request import Request
from eightfold.specs.family import Family
from eightfold.specs.network import KLConfig, UNetConfig
from eightfold.text.condition import Condition
from weights import draw, randomise

AUTOENCODER = KLConfig(channels=4, width=16, multipliers=(1, 1, 2, 2), blocks=1, groups=8)
XL = replace(TWO, attention=(0, 2), middle=2, linear_projection=True, heads=None, head_width=16, vector=VECTOR)
SIZE, STEPS, GUIDANCE, SEED = (64, 48), 8, 4.0, 5
TOLERANCE = 1e-3  # of latents up to 60
WORDS = {"noise": "epsilon", "velocity": "v_prediction"}
PARTS = ("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor")


class Told:
    """Stands in for the text encoder: the tokens do not matter here, only that both programs have the same."""

    def __init__(self, config: UNetConfig) -> None:
        self.config = config
        self.positive, self.negative = (
            Condition(draw(1, 5, config.context, seed=seed), draw(1, config.vector.pooled, seed=seed + 9) if config.vector else None)
            for seed in (7, 8)
        )

    def check(self, prompt: str, *, ignore_unknown: bool = False) -> None: ...

    def encode(self, prompts: Sequence[str]) -> Condition:
        return self.positive

    def encode_pair(self, prompt: str, negative: str | None = None) -> tuple[Condition, Condition]:
        return self.positive, self.negative

    def count_tokens(self, prompt: str) -> int:
        return 3


def build_model(family: Family, config: UNetConfig, prediction: str = "noise", autoencoder: KLConfig = AUTOENCODER) -> Model:
    space = replace(family.space, autoencoder=autoencoder)
    small = replace(family, denoiser=config, space=space, prediction=cast(Any, prediction))
    model = Model(
        family=small,
        edition="base",
        codec=build_codec(randomise(KLAutoencoder(autoencoder), seed=3).state_dict(), {}, space=space, source="toy"),
        denoiser=randomise(UNet(config), seed=1),
        text=Told(config),
        placement=choose_placement("cpu"),
        source="toy",
    )
    vars(model)["fingerprint"] = "toy"
    return model


def build_pipeline(kind: str, model: Model, scheduler: Any, autoencoder: KLConfig = AUTOENCODER) -> Any:
    with torch.device("meta"):
        theirs, vae = build_theirs(model.family.denoiser), build_their_autoencoder(autoencoder)
    theirs.register_to_config(sample_size=64)
    theirs.load_state_dict(model.denoiser.state_dict(), strict=True, assign=True)
    vae.load_state_dict(cast(KLAutoencoder, model.codec.network).state_dict(), strict=True, assign=True)
    vae.register_to_config(scaling_factor=model.family.space.normalisation.scale[0])  # type: ignore[union-attr]
    empty = dict.fromkeys([*PARTS, *(("text_encoder_2", "tokenizer_2") if "XL" in kind else ())])
    for name in ("safety_checker",) if "XL" in kind else ():
        del empty[name]
    if "XL" in kind:
        del empty["feature_extractor"]
    more = {} if "XL" in kind else {"requires_safety_checker": False}
    pipeline = getattr(diffusers, kind)(**{**empty, "vae": vae}, unet=theirs.eval(), scheduler=scheduler, **more)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def build_scheduler(model: Model, kind: str = "DDIMScheduler", **options: Any) -> Any:
    word = WORDS[model.family.prediction]
    beta = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return getattr(diffusers, kind)(**beta, prediction_type=word, timestep_spacing="trailing", **options)


def tell(model: Model) -> dict[str, Any]:
    told = cast(Told, model.text)
    words = {"prompt_embeds": told.positive.tokens, "negative_prompt_embeds": told.negative.tokens}
    if told.config.vector is None:
        return words
    return {**words, "pooled_prompt_embeds": told.positive.pooled, "negative_pooled_prompt_embeds": told.negative.pooled}


def finish(model: Model, **changes: Any) -> GenerationStep:
    fields = {"size": SIZE, "steps": STEPS, "guidance": GUIDANCE, "seed": SEED, "grid": "trailing", "sampler": "ddim"}
    *_, last = generate(model, Request(prompt="x", **{**fields, **changes}))
    return last


def run_theirs(pipeline: Any, model: Model, **changes: Any) -> Tensor:
    shared = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "latent", **tell(model)}
    return pipeline(**{**shared, **changes}).images


def compare(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert 1 < expected.abs().max() < 200
    assert (found - expected).abs().max() < TOLERANCE


def draw_noise(size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(1, 4, size[1] // 8, size[0] // 8, generator=torch.Generator().manual_seed(SEED))


@pytest.mark.parametrize(
    ("family", "config", "prediction"),
    [(SD1, TWO, "noise"), (SD2, replace(TWO, linear_projection=True, heads=None, head_width=16), "velocity")],
    ids=["sd1", "sd2-v"],
)
@torch.no_grad()
def test_text_to_image(family: Family, config: UNetConfig, prediction: str) -> None:
    model = build_model(family, config, prediction)
    pipeline = build_pipeline("StableDiffusionPipeline", model, build_scheduler(model, clip_sample=False))
    expected = run_theirs(pipeline, model, latents=draw_noise(), width=SIZE[0], height=SIZE[1])
    compare(finish(model, noise_source="diffusers").noisy, expected)


@torch.no_grad()
def test_text_to_image_of_xl() -> None:
    """The vector's numbers are here those of the toy: the pipeline's own are checked by name below."""
    names = ("height", "width", "top", "left", "target_height", "target_width")
    config = replace(XL, vector=replace(VECTOR, numbers=names))
    model = build_model(SDXL_FAMILY, config)
    pipeline = build_pipeline("StableDiffusionXLPipeline", model, build_scheduler(model, clip_sample=False))
    width = type("Config", (), {"projection_dim": VECTOR.pooled})()
    pipeline.text_encoder_2 = type("Projected", (), {"dtype": torch.float32, "config": width})()
    expected = run_theirs(pipeline, model, latents=draw_noise(), width=SIZE[0], height=SIZE[1])
    compare(finish(model, noise_source="diffusers").noisy, expected)


@pytest.mark.parametrize("strength", [0.5, 0.75])
@torch.no_grad()
def test_image_to_image(strength: float) -> None:
    model = build_model(SD1, TWO)
    pipeline = build_pipeline("StableDiffusionImg2ImgPipeline", model, build_scheduler(model, clip_sample=False))
    picture = Picture(draw(1, 3, SIZE[1], SIZE[0], seed=11).clamp(-1, 1))
    own = model.codec.normalise(model.codec.encode_start(picture, seed=SEED).raw)
    expected = run_theirs(pipeline, model, image=own, strength=strength, generator=torch.Generator().manual_seed(SEED))
    compare(finish(model, noise_source="diffusers", start=picture, strength=strength).noisy, expected)


@torch.no_grad()
def test_inpainting_with_a_plain_model() -> None:
    model = build_model(SD1, TWO)
    pipeline = build_pipeline("StableDiffusionInpaintPipeline", model, build_scheduler(model, clip_sample=False))
    picture, mask = Picture(draw(1, 3, SIZE[1], SIZE[0], seed=11).clamp(-1, 1)), torch.zeros(1, 1, SIZE[1], SIZE[0])
    mask[..., 8:32, 16:40] = 1
    own = model.codec.normalise(model.codec.encode_start(picture, seed=SEED).raw)
    generator = torch.Generator().manual_seed(SEED)
    shared = {"mask_image": mask, "masked_image_latents": own, "generator": generator, "width": SIZE[0], "height": SIZE[1]}
    expected = run_theirs(pipeline, model, image=own, strength=0.75, **shared)
    white = Picture((mask * 2 - 1).expand(-1, 3, -1, -1))
    compare(finish(model, noise_source="diffusers", start=picture, mask=white, strength=0.75, size=None).noisy, expected)


@torch.no_grad()
def test_inpainting_with_a_model_that_is_shown_the_mask() -> None:
    config = replace(TWO, channels=9)
    model = build_model(replace(SD1, reads=("mask", "covered")), config)
    pipeline = build_pipeline("StableDiffusionInpaintPipeline", model, build_scheduler(model, clip_sample=False))
    picture, mask = Picture(draw(1, 3, SIZE[1], SIZE[0], seed=11).clamp(-1, 1)), torch.zeros(1, 1, SIZE[1], SIZE[0])
    mask[..., 8:32, 16:40] = 1
    covered = torch.where(mask < 0.5, picture.image, 0.0)
    shown = model.codec.normalise(model.codec.encode_start(covered, seed=SEED).raw)
    shared = {"mask_image": mask, "masked_image_latents": shown, "width": SIZE[0], "height": SIZE[1]}
    expected = run_theirs(pipeline, model, image=torch.zeros_like(shown), latents=draw_noise(), strength=1.0, **shared)
    white = Picture((mask * 2 - 1).expand(-1, 3, -1, -1))
    compare(finish(model, noise_source="diffusers", start=picture, mask=white, size=None).noisy, expected)


@torch.no_grad()
def test_another_sampler_on_another_grid() -> None:
    model = build_model(SD1, TWO)
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_karras_sigmas=True, timestep_spacing="linspace"
    )
    pipeline = build_pipeline("StableDiffusionPipeline", model, scheduler)
    expected = run_theirs(pipeline, model, latents=draw_noise(), width=SIZE[0], height=SIZE[1])
    found = finish(model, noise_source="diffusers", sampler="dpm++2m", grid="karras").noisy
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()  # theirs rounds the steps' times to whole entries of the table
