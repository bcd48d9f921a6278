"""Pictures from a request: the one denoising loop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..codec.pixels import Picture
from ..core.device import name_dtype
from ..core.errors import EightfoldError, RequestError
from ..core.rng import build_generator, draw_noise
from ..core.versions import read_versions
from ..denoisers.unet import to_vector
from ..diffusion.grid import build_grid
from ..diffusion.guidance import ClassifierFree
from ..diffusion.predict import add_noise, to_clean
from ..diffusion.samplers import Denoise, Moment, Sampler, build_sampler
from ..specs.family import Family
from ..text.condition import Condition
from .bundle import Model
from .request import Plan, Request, to_plan, to_text
from .running import choose_runner, to_record
from .start import Start, count_moves, read_start, resize, to_cells
from .transcode import slerp

AESTHETIC = (6.0, 2.5)  # how pictures are to look and not to look, out of 10 (Stability-AI/generative-models, sgm/inference/api.py)


@dataclass(frozen=True)
class Tokens:
    """What the denoiser is told: the prompt, and for guidance what to lead away from."""

    positive: Condition
    negative: Condition | None


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
    job: Job
    leg: Leg

    @property
    def is_first(self) -> bool:
        """Whether a picture begins with this step."""
        return (self.number - 1) % self.job.moves == 0

    @property
    def is_last(self) -> bool:
        """Whether this step finished a picture: the last of `images`."""
        return self.number % self.job.moves == 0

    def preview(self) -> Picture:
        """The picture that the denoiser expects at this step."""
        return decode(self.job, self.leg, self.clean, self.seed)


def generate(model: Model, request: Request, *, tokens: Tokens | None = None) -> Iterator[GenerationStep]:
    """Make the request's pictures one after the other, yielding after every step.

    Everything that can be wrong with the request is raised before the first step. `tokens` stand in for those of the prompts.
    """
    check_reads(model, request)
    start = read_start(request, model.family.defaults.size, find_multiple(model.family))
    plan = to_plan(request, model.family, None if start is None else (start.width, start.height))
    for prompt in (request.prompt, request.negative):
        model.text.check(prompt, ignore_unknown=request.ignore_unknown)
    model.codec.plan("decode", plan.width, plan.height)  # which refuses what would not fit into memory
    legs = list_legs(model, plan)
    sampler = build_sampler(plan.sampler, eta=plan.eta)
    return run(Job(model, plan, start, tokens or encode_prompts(model, plan), legs), sampler)


def check_reads(model: Model, request: Request) -> None:
    """A network that is shown a picture or a mask cannot do without."""
    for name, given, hint in (("picture", request.start, "--start IMAGE"), ("mask", request.mask, "--start IMAGE --mask MASK")):
        if name in model.family.reads and given is None:
            raise RequestError(f"{model.source} is a {model.family.name} model ({model.edition}) that is shown a {name}", hint=hint)


def list_legs(model: Model, plan: Plan) -> tuple[Leg, ...]:
    """One, or for a picture that is drawn small and drawn over again large, two."""
    times = build_grid(plan.grid, model.family.process, plan.steps)
    first = times[-count_moves(plan.steps, plan.strength) - 1 :]
    if plan.enlarge == 1:
        return (Leg(plan.width, plan.height, first),)
    width, height = (max(1, round(side / plan.enlarge)) for side in (plan.width, plan.height))
    return Leg(width, height, first), Leg(plan.width, plan.height, times[-count_moves(plan.steps, plan.enlarge_strength) - 1 :])


def encode_prompts(model: Model, plan: Plan) -> Tokens:
    """The prompt's tokens, and where guidance asks for them the negative prompt's."""
    if not ClassifierFree(plan.guidance).needs_negative:
        return Tokens(model.text.encode([plan.prompt]), None)
    both = model.text.encode([plan.prompt, plan.negative])
    halves = [Condition(both.tokens[i : i + 1], None if both.pooled is None else both.pooled[i : i + 1]) for i in range(2)]
    return Tokens(halves[0], halves[1])


class Leg(NamedTuple):
    """A part of a run: the size in pixels, and the times that are visited."""

    width: int
    height: int
    times: tuple[float, ...]

    @property
    def moves(self) -> int:
        return len(self.times) - 1


@dataclass(frozen=True, eq=False)
class Job:
    """A request with everything that its pictures share."""

    model: Model
    plan: Plan
    start: Start | None
    tokens: Tokens
    legs: tuple[Leg, ...]

    @property
    def moves(self) -> int:
        """Steps of one picture."""
        return sum(leg.moves for leg in self.legs)


def find_multiple(family: Family) -> int:
    """Pixels of the smallest square that every level of the network sees as whole cells."""
    return family.space.latent_downscale * 2 ** (len(family.denoiser.multipliers) - 1)


def run(job: Job, sampler: Sampler) -> Iterator[GenerationStep]:
    images: tuple[Picture, ...] = ()
    model, plan = job.model, job.plan
    for index in range(plan.count):
        seed, number, latent = plan.seed + index, index * job.moves, None
        noise = NoiseStream(model, plan, seed)
        for leg in job.legs:
            noise.turn_to(leg)
            canvas = enter(job, leg, latent, seed)
            first = begin(noise.draw_first(), canvas, job, leg)
            for step in sampler(build_denoise(job, leg, canvas), first, model.family.process, leg.times, noise):
                number, latent = number + 1, step.noisy
                if number % job.moves == 0:
                    images = (*images, decode(job, leg, latent, seed))
                yield GenerationStep(
                    number=number,
                    total=plan.count * job.moves,
                    seed=seed,
                    moment=step.moment,
                    noisy=step.noisy,
                    clean=step.clean,
                    images=images,
                    job=job,
                    leg=leg,
                )


@dataclass(frozen=True, eq=False)
class Canvas:
    """The latent of the picture that a leg begins from, and what of it may be drawn: 1 in such cells (None: all). `beside` is what the
    network is shown next to the noisy latent.
    """

    clean: Float[Tensor, "1 c h w"]
    cells: Float[Tensor, "1 1 h w"] | None = None
    beside: Float[Tensor, "1 c2 h w"] | None = None


def enter(job: Job, leg: Leg, latent: Tensor | None, seed: int) -> Canvas | None:
    """What a leg begins from: the picture of the leg before, else the one that was given, else nothing."""
    if latent is None:
        return None if job.start is None else encode_start(job, job.start, leg, seed)
    image = job.model.codec.decode_one(job.model.codec.denormalise(latent)).image
    return Canvas(encode(job, resize(image, leg.width, leg.height).clamp(-1, 1), seed))


def encode(job: Job, image: Float[Tensor, "1 3 h w"], seed: int) -> Float[Tensor, "1 c h w"]:
    codec, device = job.model.codec, job.model.placement.device
    return codec.normalise(codec.encode_start(image, seed=seed).raw.to(device))


def encode_start(job: Job, start: Start, leg: Leg, seed: int) -> Canvas:
    """A network that is shown the mask needs no help in keeping what is outside of it."""
    image, mask = start.show(leg.width, leg.height), start.show_mask(leg.width, leg.height)
    clean = encode(job, image, seed)
    cells = None if mask is None else to_cells(mask, job.model.codec.space.latent_downscale).to(clean.device)
    reads = job.model.family.reads
    if not reads or cells is None or mask is None:
        return Canvas(clean, cells)
    shown = {"mask": (cells > 0).float(), "picture": encode(job, torch.where(mask < 0.5, image, 0.0), seed)}
    return Canvas(clean, None, torch.cat([shown[name] for name in reads], dim=1))


def begin(noise: Float[Tensor, "1 c h w"], canvas: Canvas | None, job: Job, leg: Leg) -> Float[Tensor, "1 c h w"]:
    """The state that sampling begins with: where all of the grid is gone through, nothing is left of a picture to begin from."""
    process, t = job.model.family.process, leg.times[0]
    if canvas is None or leg.moves == job.plan.steps:
        return noise
    return add_noise(canvas.clean, noise, process.alpha(t), process.sigma(t))


class NoiseStream:
    """The noise of one picture, all from one generator: drawn on the CPU in float32, so that a seed means the same everywhere."""

    def __init__(self, model: Model, plan: Plan, seed: int) -> None:
        self.space = model.codec.space
        self.shape = self.to_shape(plan.width, plan.height)
        self.generator = build_generator(seed)
        self.plan = plan
        self.device = model.placement.device

    def to_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        down = self.space.latent_downscale
        return (1, self.space.latent_channels, -(-height // down), -(-width // down))

    def turn_to(self, leg: Leg) -> None:
        """Noise of another size, from the same generator."""
        self.shape = self.to_shape(leg.width, leg.height)

    def draw_first(self) -> Float[Tensor, "1 c h w"]:
        """What sampling begins with; with a variation, part of the way to the noise of another seed."""
        noise, plan = self.draw(), self.plan
        if plan.variation == 0:
            return noise
        other = draw_noise(self.shape, build_generator(plan.variation_seed)).to(self.device)
        return slerp(noise, other, plan.variation)

    def draw(self) -> Float[Tensor, "1 c h w"]:
        return draw_noise(self.shape, self.generator).to(self.device)

    def __call__(self, moment: Moment) -> Float[Tensor, "1 c h w"]:
        return self.draw()


def build_denoise(job: Job, leg: Leg, canvas: Canvas | None) -> Denoise:
    """noisy at a moment -> clean, guided: what samplers call. The state stays float32; the network runs in its own dtype.

    Where the canvas is not to be drawn the clean latent is its own, whatever the network says: so the state there stays the canvas with
    the noise that it began with, in every sampler, and what a sampler remembers of earlier steps stays true.
    """
    model, tokens = job.model, job.tokens
    guidance = ClassifierFree(job.plan.guidance)
    process, dtype = model.family.process, model.placement.dtype
    told = [tokens.positive] if tokens.negative is None else [tokens.positive, tokens.negative]
    both = torch.cat([one.tokens for one in told])
    vector, beside = build_vector(job, leg, told), None if canvas is None else canvas.beside
    run_denoiser = choose_runner(model.denoiser, model.placement, model.codec.engine)

    def denoise(noisy: Tensor, moment: Moment) -> Tensor:
        timestep = torch.full((len(both),), process.timestep(moment.t), device=noisy.device)
        seen = (noisy if beside is None else torch.cat([noisy, beside], dim=1)).to(dtype)
        output = run_denoiser(seen.expand(len(both), -1, -1, -1), timestep, both, vector).float()
        if tokens.negative is not None:
            output = guidance.combine(output[:1], output[1:])
        clean = to_clean(output, noisy, process.alpha(moment.t), process.sigma(moment.t), model.family.prediction)
        if not bool(torch.isfinite(clean).all()):
            what = f"the denoiser gave values that are not finite at t = {moment.t:.3f}, in {name_dtype(dtype)}"
            raise EightfoldError(what, hint="a lower guidance, or --dtype float32, which has the widest range")
        if canvas is not None and canvas.cells is not None:
            clean = canvas.cells * clean + (1 - canvas.cells) * canvas.clean
        return clean

    return denoise


def build_vector(job: Job, leg: Leg, told: Sequence[Condition]) -> Float[Tensor, "b v"] | None:
    """What the network is told beside tokens, a row for each prompt, the negative one last; None where it is told nothing."""
    config = job.model.family.denoiser.vector
    if config is None:
        return None
    sizes = {"height": leg.height, "width": leg.width, "top": 0, "left": 0}
    sizes |= {"target_height": leg.height, "target_width": leg.width}
    rows = [
        to_vector(config, one.pooled, {**sizes, "aesthetic_score": score})
        for one, score in zip(told, AESTHETIC, strict=False)
        if one.pooled is not None
    ]
    return torch.cat(rows).to(job.model.placement.dtype)


@torch.no_grad()
def decode(job: Job, leg: Leg, latent: Tensor, seed: int) -> Picture:
    """Latent to a picture of exactly the leg's size, put where it belongs, with the plan in its metadata."""
    model, plan, start = job.model, job.plan, job.start
    decoded = model.codec.decode_one(model.codec.denormalise(latent))
    image = decoded.image[:, :, : leg.height, : leg.width]
    if start is not None and not plan.raw:
        image = start.paste(image, plan.feather)
    record = {**asdict(plan), "seed": seed, "count": 1, "model": model.family.name, "fingerprint": model.fingerprint}
    record |= {"decoder": model.codec.decoder_fingerprint, "decoder_dtype": decoded.dtype}
    record |= {"dtype_reason": model.placement.reason, "notes": decoded.notes, **to_record(model.denoiser)}
    text = json.dumps({**record, "dtype": name_dtype(model.placement.dtype), **read_versions()}, ensure_ascii=False)
    alpha = None if start is None or plan.raw or start.picture.alpha is None else resize(start.picture.alpha, image.shape[-1], image.shape[-2]).clamp(0, 1)
    return Picture(
        image=image,
        alpha=alpha,
        source=f"{plan.prompt} ({seed})",
        notes=decoded.notes,
        metadata={"eightfold": text},
        warnings=warn_of_size(plan, model.family),
    )


def warn_of_size(plan: Plan, family: Family) -> tuple[str, ...]:
    """What becomes of pictures that are larger both ways than any that the network has learned from."""
    (width, height), native = (plan.width / plan.enlarge, plan.height / plan.enlarge), family.defaults.size
    if width <= native[0] or height <= native[1]:
        return ()
    factor = max(width / native[0], height / native[1])
    what = f"{plan.width}x{plan.height} is larger than the {to_text(native)} that {family.name} is at home at: objects may appear twice"
    return (f"{what}; --enlarge {factor:.2g} draws small first",)
