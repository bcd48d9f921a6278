"""Pictures from a request: the one denoising loop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..codec.pixels import Picture
from ..core.device import name_dtype
from ..core.errors import EightfoldError
from ..core.rng import build_generator, draw_noise
from ..core.versions import read_versions
from ..diffusion.grid import build_grid
from ..diffusion.guidance import ClassifierFree
from ..diffusion.predict import to_clean
from ..diffusion.samplers import Denoise, Moment, Sampler, build_sampler
from .bundle import Model
from .request import Plan, Request, to_plan


@dataclass(frozen=True)
class Tokens:
    """What the denoiser is told: the prompt, and for guidance what to lead away from."""

    positive: Float[Tensor, "1 n d"]
    negative: Float[Tensor, "1 n d"] | None


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

    @property
    def is_last(self) -> bool:
        """Whether this step finished a picture: the last of `images`."""
        return self.moment.next_t == 0

    def preview(self) -> Picture:
        """The picture that the denoiser expects at this step."""
        return decode(self.model, self.clean, self.plan, self.seed)


def generate(model: Model, request: Request, *, tokens: Tokens | None = None) -> Iterator[GenerationStep]:
    """Make the request's pictures one after the other, yielding after every step.

    Everything that can be wrong with the request is raised before the first step. `tokens` stand in for those of the prompts.
    """
    plan = to_plan(request, model.family)
    for prompt in (request.prompt, request.negative):
        model.words.check(prompt, ignore_unknown=request.ignore_unknown)
    model.codec.plan("decode", plan.width, plan.height)  # which refuses what would not fit into memory
    times = build_grid(plan.grid, model.family.process, plan.steps)
    sampler = build_sampler(plan.sampler, eta=plan.eta)
    return run(model, plan, times, sampler, tokens or encode_prompts(model, plan))


def encode_prompts(model: Model, plan: Plan) -> Tokens:
    """The prompt's tokens, and where guidance asks for them the negative prompt's."""
    positive = model.encode_text(plan.prompt)
    return Tokens(positive, model.encode_text(plan.negative) if ClassifierFree(plan.guidance).needs_negative else None)


def run(model: Model, plan: Plan, times: Sequence[float], sampler: Sampler, tokens: Tokens) -> Iterator[GenerationStep]:
    images: tuple[Picture, ...] = ()
    moves = len(times) - 1
    denoise = build_denoise(model, plan, tokens)
    for index in range(plan.count):
        noise = NoiseStream(model, plan, plan.seed + index)
        for step in sampler(denoise, noise.draw(), model.family.process, times, noise):
            if step.moment.next_t == 0:
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


class NoiseStream:
    """The noise of one picture, all from one generator: drawn on the CPU in float32, so that a seed means the same everywhere."""

    def __init__(self, model: Model, plan: Plan, seed: int) -> None:
        space = model.codec.space
        down = space.latent_downscale
        self.shape = (1, space.latent_channels, -(-plan.height // down), -(-plan.width // down))
        self.generator = build_generator(seed)
        self.device = model.placement.device

    def draw(self) -> Float[Tensor, "1 c h w"]:
        return draw_noise(self.shape, self.generator).to(self.device)

    def __call__(self, moment: Moment) -> Float[Tensor, "1 c h w"]:
        return self.draw()


def build_denoise(model: Model, plan: Plan, tokens: Tokens) -> Denoise:
    """noisy at a moment -> clean, guided: what samplers call. The state stays float32; the network runs in its own dtype."""
    guidance = ClassifierFree(plan.guidance)
    process, dtype = model.family.process, model.placement.dtype
    both = tokens.positive if tokens.negative is None else torch.cat([tokens.positive, tokens.negative])

    def denoise(noisy: Tensor, moment: Moment) -> Tensor:
        timestep = torch.full((len(both),), process.timestep(moment.t), device=noisy.device)
        output = model.denoiser(noisy.to(dtype).expand(len(both), -1, -1, -1), timestep, both).float()
        if tokens.negative is not None:
            output = guidance.combine(output[:1], output[1:])
        clean = to_clean(output, noisy, process.alpha(moment.t), process.sigma(moment.t), model.family.prediction)
        if not bool(torch.isfinite(clean).all()):
            what = f"the denoiser gave values that are not finite at t = {moment.t:.3f}, in {name_dtype(dtype)}"
            raise EightfoldError(what, hint="a lower guidance, or --dtype float32, which has the widest range")
        return clean

    return denoise


@torch.no_grad()
def decode(model: Model, latent: Tensor, plan: Plan, seed: int) -> Picture:
    """Latent to a picture of exactly the plan's size, with the plan in its metadata."""
    decoded = model.codec.decode_one(model.codec.denormalise(latent))
    image = decoded.image[:, :, : plan.height, : plan.width]
    record = {**asdict(plan), "seed": seed, "count": 1, "model": model.family.name, "fingerprint": model.fingerprint}
    record |= {"decoder": model.codec.decoder_fingerprint, "decoder_dtype": decoded.dtype}
    record |= {"dtype_reason": model.placement.reason, "notes": decoded.notes}
    text = json.dumps({**record, "dtype": name_dtype(model.placement.dtype), **read_versions()}, ensure_ascii=False)
    return Picture(image=image, source=f"{plan.prompt} ({seed})", notes=decoded.notes, metadata={"eightfold": text})
