"""Latent consistency models against diffusers': their grid, the boundary of their estimate, and whole runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import LCMScheduler
from test_generation_parity import SIZE, build_model, build_pipeline, compare, finish, tell
from test_unet_parity import TWO

from eightfold.diffusion.grid import build_grid
from eightfold.diffusion.moves import Moment
from eightfold.diffusion.predict import to_clean
from eightfold.diffusion.samplers import build_sampler
from eightfold.families.processes import SD_PROCESS
from eightfold.families.sd1 import SD1
from weights import draw

TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("steps", [*range(1, 10), 16, 25, 33, 49, 50])
def test_the_grid(steps: int) -> None:
    scheduler = LCMScheduler(**TABLE)
    scheduler.set_timesteps(steps)
    times = build_grid("lcm", SD_PROCESS, steps)
    assert [SD_PROCESS.timestep(t) for t in times[:-1]] == pytest.approx(scheduler.timesteps.tolist(), abs=1e-9)


def test_the_boundary_down_to_the_first_time() -> None:
    """There the estimate is the state itself, whatever the network says."""
    scheduler = LCMScheduler(**TABLE)
    scheduler.set_timesteps(timesteps=[999, 500, 12, 3, 0])
    times = (1.0, 0.501, 0.013, 0.004, 0.001, 0.0)

    def answer(x: torch.Tensor, t: float) -> torch.Tensor:
        return torch.tanh(x + t) * 0.9

    def denoise(x: torch.Tensor, moment: Moment) -> torch.Tensor:
        return to_clean(answer(x, moment.t), x, SD_PROCESS.alpha(moment.t), SD_PROCESS.sigma(moment.t), "noise")

    steps = list(build_sampler("lcm")(denoise, draw(1, 4, 5, 6).double(), SD_PROCESS, times, lambda moment: draw_noise(moment.index)))
    x = draw(1, 4, 5, 6).double()
    for index, (t, step) in enumerate(zip(times, steps, strict=False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *_, index=index, **__: draw_noise(index))
            x = scheduler.step(answer(x, t), scheduler.timesteps[index], x).prev_sample
        assert (step.noisy - x).abs().max() < 1e-4
    assert torch.equal(steps[-1].noisy, steps[-2].noisy)


def draw_noise(number: int) -> torch.Tensor:
    return draw(1, 4, 5, 6, seed=number + 1).double()


@pytest.mark.parametrize("guidance", [1.0, 8.5])
@torch.no_grad()
def test_a_whole_run(guidance: float) -> None:
    """The network is told the guidance, and asked once a step."""
    model = build_model(SD1, replace(TWO, guidance=256))
    pipeline = build_pipeline("LatentConsistencyModelPipeline", model, LCMScheduler(**TABLE, steps_offset=1))
    told = {"prompt_embeds": tell(model)["prompt_embeds"], "width": SIZE[0], "height": SIZE[1]}
    generator = torch.Generator().manual_seed(5)
    expected = pipeline(**told, num_inference_steps=4, guidance_scale=guidance, generator=generator, output_type="latent").images
    compare(finish(model, noise_source="diffusers", sampler="lcm", grid="lcm", steps=4, guidance=guidance).noisy, expected)
    other = finish(model, noise_source="diffusers", sampler="lcm", grid="lcm", steps=4, guidance=4.0).noisy
    assert (other - expected).abs().max() > 0.05


@torch.no_grad()
def test_an_ordinary_network_with_their_sampler() -> None:
    """As it is with a LoRA that makes a consistency model of it: no guidance is told, and at 1 none is computed."""
    model = build_model(SD1, TWO)
    pipeline = build_pipeline("StableDiffusionPipeline", model, LCMScheduler(**TABLE, steps_offset=1))
    told = {**tell(model), "width": SIZE[0], "height": SIZE[1], "num_inference_steps": 8, "guidance_scale": 1.0, "output_type": "latent"}
    expected = pipeline(**told, generator=torch.Generator().manual_seed(5)).images
    compare(finish(model, noise_source="diffusers", sampler="lcm", grid="lcm", guidance=1.0).noisy, expected)
