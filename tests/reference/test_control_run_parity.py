"""A whole run under two ControlNets, against StableDiffusionControlNetPipeline on the same weights, noise and pictures."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionControlNetPipeline
from test_control_parity import CONTROLS, build_their_control
from test_unet_parity import build_theirs
from torch import Tensor

from eightfold.denoisers.control import ControlNet
from eightfold.denoisers.unet import UNet
from eightfold.diffusion.grid import trailing
from eightfold.diffusion.guidance import ClassifierFree
from eightfold.diffusion.predict import to_clean
from eightfold.diffusion.samplers import Moment, build_sampler
from eightfold.pipelines.control import Control, sum_controls
from eightfold.specs.family import Prediction
from eightfold.specs.process import ScaledLinear
from weights import draw, randomise

CONFIG = CONTROLS["two"]
PROCESS = ScaledLinear()
STEPS, GUIDANCE = 8, 3.0  # steps that divide the table: else theirs go from other times than they were told
WEIGHTS, STARTS, ENDS = (0.8, 1.5), (0.0, 0.3), (0.5, 1.0)
WORDS = {"noise": "epsilon", "velocity": "v_prediction"}


def run_theirs(unet: UNet, nets: list[ControlNet], hints: list[Tensor], told: tuple[Tensor, Tensor], prediction: Prediction) -> Tensor:
    with torch.device("meta"):
        theirs, controls = build_theirs(CONFIG.unet), [build_their_control(CONFIG) for _ in nets]
    for one, own in zip((theirs, *controls), (unet, *nets), strict=True):
        one.load_state_dict(own.state_dict(), strict=True, assign=True)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type=WORDS[prediction],
    )
    pipeline = StableDiffusionControlNetPipeline(
        **dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor")),
        unet=theirs,
        controlnet=controls,
        scheduler=scheduler,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        image=hints,
        prompt_embeds=told[0],
        negative_prompt_embeds=told[1],
        latents=draw(1, 4, 8, 8),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        controlnet_conditioning_scale=[*WEIGHTS],
        control_guidance_start=[*STARTS],
        control_guidance_end=[*ENDS],
        output_type="latent",
    ).images


def run_ours(unet: UNet, controls: list[Control], told: tuple[Tensor, Tensor], prediction: Prediction) -> Tensor:
    both = torch.cat(told)

    def denoise(noisy: Tensor, moment: Moment) -> Tensor:
        seen, timestep = noisy.expand(2, -1, -1, -1), torch.full((2,), PROCESS.timestep(moment.t))
        output = unet(seen, timestep, both, None, sum_controls(controls, seen, timestep, both, step=moment.index, steps=STEPS))
        guided = ClassifierFree(GUIDANCE).combine(output[:1], output[1:])
        return to_clean(guided, noisy, PROCESS.alpha(moment.t), PROCESS.sigma(moment.t), prediction)

    *_, last = build_sampler("ddim", eta=0.0)(denoise, draw(1, 4, 8, 8), PROCESS, trailing(PROCESS, STEPS), lambda moment: draw(1, 4, 8, 8))
    return last.noisy


@pytest.mark.parametrize("prediction", WORDS)
@torch.no_grad()
def test_the_last_latent(prediction: Prediction) -> None:
    unet = randomise(UNet(CONFIG.unet), seed=1)
    nets = [randomise(ControlNet(CONFIG), seed=seed) for seed in (2, 3)]
    hints = [draw(1, 3, 64, 64, seed=seed).sigmoid() for seed in (5, 6)]
    told = draw(1, 5, CONFIG.unet.context, seed=7), draw(1, 5, CONFIG.unet.context, seed=8)
    controls = [
        Control(net=net, hint=hint, weight=weight, start=start, end=end)
        for net, hint, weight, start, end in zip(nets, hints, WEIGHTS, STARTS, ENDS, strict=True)
    ]
    expected, found = run_theirs(unet, nets, hints, told, prediction), run_ours(unet, controls, told, prediction)
    assert 1 < expected.abs().max() < 100
    assert (found - expected).abs().max() < 1e-3
    assert (found - run_ours(unet, controls[:1], told, prediction)).abs().max() > 0.1
