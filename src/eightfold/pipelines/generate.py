"""Pictures from a request: the one denoising loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..codec.pixels import Picture
from ..core.errors import EightfoldError
from ..core.rng import build_generator, draw_noise
from ..core.versions import read_versions
from ..diffusion.grid import build_grid
from ..diffusion.guidance import ClassifierFree
from ..diffusion.predict import to_clean
from ..diffusion.samplers import Denoise, Moment, build_sampler
from .bundle import Model
from .request import Plan, Request, to_plan


@dataclass(frozen=True, kw_only=True)
class GenerationStep:
    """One step of one picture. `number` counts all steps of the request from 1; `images` are the pictures finished so far."""

    number: int
    total: int
    seed: int
    moment: Moment
    noisy: Float[Tensor, "1 c h w"]
    clean: Float[Tensor, "1 c h w"]  # the estimate behind it, as the denoiser sees latents
    images: tuple[Picture, ...]
    model: Model
    plan: Plan

    def preview(self) -> Picture:
        """The picture that the denoiser expects at this step."""
        return decode(self.model, self.clean, self.plan, self.plan.seed)


def generate(model: Model, request: Request) -> Iterator[GenerationStep]:
    """Make the request's pictures one after the other, yielding after every step.

    Everything that can be wrong with the request is raised before the first step.
    """
    plan = to_plan(request, model.family)
    if not request.ignore_unknown:
        for prompt in (request.prompt, request.negative):
            model.words.check(prompt)
    times = build_grid(plan.grid, model.family.process, plan.steps)
    sampler = build_sampler(plan.sampler, eta=plan.eta)
    denoise = build_denoise(model, plan)
    return run(model, plan, times, sampler, denoise)


def run(model: Model, plan: Plan, times, sampler, denoise: Denoise) -> Iterator[GenerationStep]:
    images: tuple[Picture, ...] = ()
    moves = len(times) - 1
    for index in range(plan.count):
        generator = build_generator(plan.seed + index)
        start = draw_latent_noise(model, plan, generator)
        steps = sampler(denoise, start, model.family.process, times, lambda _: draw_latent_noise(model, plan, generator))
        for step in steps:
            if step.moment.index == moves - 1:
                images = (*images, decode(model, step.noisy, plan, plan.seed + index))
            yield GenerationStep(
                number=index * moves + step.moment.index + 1,
                total=plan.count * moves,
                seed=plan.seed + index,
                moment=step.moment,
                noisy=step.noisy,
                clean=step.clean,
                images=images,
                model=model,
                plan=plan,
            )


def to_latent_shape(model: Model, plan: Plan) -> tuple[int, int, int, int]:
    """The latent of a padded picture: sides rounded up to the downscale."""
    down = model.codec.space.downscale
    return 1, model.codec.space.channels, -(-plan.height // down), -(-plan.width // down)


def draw_latent_noise(model: Model, plan: Plan, generator: Generator) -> Tensor:
    """Drawn on the CPU in float32, so that a seed means the same everywhere."""
    return draw_noise(to_latent_shape(model, plan), generator).to(model.placement.device)


def build_denoise(model: Model, plan: Plan) -> Denoise:
    """noisy at a moment -> clean, guided: what samplers call. The state stays float32; the network runs in its own dtype."""
    guidance = ClassifierFree(plan.guidance)
    prompts = [plan.prompt, plan.negative] if guidance.needs_negative else [plan.prompt]
    process, dtype = model.family.process, model.placement.dtype
    with torch.no_grad():
        tokens = model.text(model.words.to_numbers(prompts).to(model.placement.device))

    def denoise(noisy: Tensor, moment: Moment) -> Tensor:
        timestep = torch.full((len(prompts),), process.timestep(moment.t), device=noisy.device)
        output = model.denoiser(noisy.to(dtype).expand(len(prompts), -1, -1, -1), timestep, tokens).float()
        if guidance.needs_negative:
            output = guidance.combine(output[:1], output[1:])
        clean = to_clean(output, noisy, process.alpha(moment.t), process.sigma(moment.t), model.family.prediction)
        if not bool(torch.isfinite(clean).all()):
            raise EightfoldError(f"the denoiser gave values that are not finite at t = {moment.t:.3f}", hint="--dtype float32 has the widest range")
        return clean

    return denoise


@torch.no_grad()
def decode(model: Model, latent: Tensor, plan: Plan, seed: int) -> Picture:
    """Latent to a picture of exactly the plan's size, with the plan in its metadata."""
    raw = model.codec.denormalise(latent)
    image = model.codec.decode_raw(raw)[:, :, : plan.height, : plan.width]
    record = {**asdict(plan), "seed": seed, "count": 1, "model": model.family.name, "fingerprint": model.fingerprint}
    record |= {"decoder": model.codec.decoder_fingerprint, "dtype": str(model.placement.dtype).removeprefix("torch."), **read_versions()}
    return Picture(image=image, source=f"{plan.prompt} ({seed})", metadata={"eightfold": json.dumps(record, ensure_ascii=False)})
