"""Pictures from a request: the one denoising loop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..codec.explain import Explanation
from ..codec.latentfile import Latent, Padding
from ..codec.pixels import Picture
from ..core.device import name_dtype
from ..core.errors import EightfoldError, RequestError, Undecoded
from ..core.rng import Draws, to_noise_source
from ..core.versions import read_versions
from ..denoisers.unet import to_vector
from ..diffusion.grid import build_grid
from ..diffusion.guidance import ClassifierFree
from ..diffusion.predict import add_noise, to_clean
from ..diffusion.samplers import Denoise, Moment, Sampler, build_sampler
from ..specs.family import Family
from ..text.condition import Condition
from .bundle import Model
from .noise import to_amplitude, to_noise_notes, vary
from .parameters import to_parameters
from .preview import to_preview
from .request import Plan, Request, to_plan, to_text
from .start import Start, count_moves, read_start, resize, to_cells

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
        """What the denoiser expects at this step, one pixel for a cell of the raw latent: takes next to no time."""
        codec = self.job.model.codec
        return Picture(to_preview(codec, codec.denormalise(self.clean)), source=f"{self.job.plan.prompt} ({self.seed})")

    def to_latent(self) -> Latent:
        """What the denoiser expects at this step, as one that can be kept in a file; after the last step the picture itself."""
        return to_latent(self.job, self.leg, self.clean if self.moment.next_t > 0 else self.noisy)

    def decode(self) -> Picture:
        """What the denoiser expects at this step, decoded: takes as long as the last picture will."""
        return decode(self.job, self.leg, self.clean, self.seed)


def generate(model: Model, request: Request, *, tokens: Tokens | None = None) -> Iterator[GenerationStep]:
    """Make the request's pictures one after the other, yielding after every step.

    Everything that can be wrong with the request is raised before the first step. `tokens` stand in for those of the prompts.
    """
    outline = resolve(model, request)
    plan = outline.plan
    sampler = build_sampler(plan.sampler, eta=plan.eta)
    return run(Job(model, plan, outline.start, tokens or encode_prompts(model, plan), outline.legs), sampler)


@dataclass(frozen=True, eq=False)
class Outline:
    """What a request comes to with a model: nothing left open, nothing computed yet. `decoding` tells how it would be decoded."""

    plan: Plan
    start: Start | None
    legs: tuple[Leg, ...]
    decoding: Explanation | None


def resolve(model: Model, request: Request) -> Outline:
    """Raises RequestError for whatever cannot be, and where the decoding would not fit into memory."""
    check_reads(model, request)
    start = read_start(request, model.family.defaults.size, find_multiple(model.family))
    plan = to_plan(request, model.family, None if start is None else (start.width, start.height))
    for prompt in (request.prompt, request.negative):
        model.text.check(prompt, ignore_unknown=request.ignore_unknown)
    build_sampler(plan.sampler, eta=plan.eta)
    build_guidance(plan)
    return Outline(plan, start, list_legs(model, plan), model.codec.plan("decode", plan.width, plan.height))


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
    if not build_guidance(plan).needs_negative:
        return Tokens(model.text.encode([plan.prompt]), None)
    positive, negative = model.text.encode_pair(plan.prompt, plan.negative or None)
    return Tokens(positive, negative)


def build_guidance(plan: Plan) -> ClassifierFree:
    return ClassifierFree(plan.guidance, plan.rescale, plan.interval)


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
                    images = (*images, finish(job, leg, latent, seed))
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


def finish(job: Job, leg: Leg, latent: Tensor, seed: int) -> Picture:
    """The picture, or its latent with whatever went wrong: sampling has taken long."""
    try:
        return decode(job, leg, latent, seed)
    except Exception as error:
        why = str(error) or type(error).__name__
        raise Undecoded(f"the picture was sampled and could not be decoded: {why}", to_latent(job, leg, latent)) from error


def to_latent(job: Job, leg: Leg, latent: Tensor) -> Latent:
    """A denoiser's latent as one that can be kept in a file."""
    codec = job.model.codec
    raw, side = codec.denormalise(latent).cpu(), codec.space.downscale
    return Latent(
        raw=raw,
        space=codec.space.name,
        width=leg.width,
        height=leg.height,
        padding=Padding(0, 0, raw.shape[-1] * side - leg.width, raw.shape[-2] * side - leg.height),
        reading="mode",
        decoder=codec.decoder_fingerprint,
        versions=read_versions(),
        dtype=name_dtype(job.model.placement.dtype),
        reason=job.model.placement.reason,
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
        return to_amplitude(job.plan, process, t) * noise
    return add_noise(canvas.clean, noise, process.alpha(t), process.sigma(t))


class NoiseStream:
    """The noise of one picture, in the order of the plan's noise source: drawn on the CPU in float32, it is the same everywhere."""

    def __init__(self, model: Model, plan: Plan, seed: int) -> None:
        self.space = model.codec.space
        self.shape = self.to_shape(plan.width, plan.height)
        self.draws, self.other = (Draws(number, to_noise_source(plan.noise_source)) for number in (seed, plan.variation_seed))
        self.plan = plan
        self.device = model.placement.device

    def to_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        down = self.space.latent_downscale
        return (1, self.space.latent_channels, -(-height // down), -(-width // down))

    def turn_to(self, leg: Leg) -> None:
        """Noise for the next pass, of another size."""
        self.shape = self.to_shape(leg.width, leg.height)
        self.draws.begin_pass()

    def draw_first(self) -> Float[Tensor, "1 c h w"]:
        """What sampling begins with; with a variation, part of the way to the noise of another seed."""
        noise, plan = self.draw(), self.plan
        if plan.variation == 0:
            return noise
        self.other.begin()
        return vary(plan, noise, self.other.draw(self.shape).to(self.device))

    def draw(self) -> Float[Tensor, "1 c h w"]:
        return self.draws.draw(self.shape).to(self.device)

    def __call__(self, moment: Moment) -> Float[Tensor, "1 c h w"]:
        return self.draw()


def build_denoise(job: Job, leg: Leg, canvas: Canvas | None) -> Denoise:
    """noisy at a moment -> clean, guided: what samplers call. The state stays float32; the network runs in its own dtype.

    Where the canvas is not to be drawn the clean latent is its own, whatever the network says: so the state there stays the canvas with
    the noise that it began with, in every sampler, and what a sampler remembers of earlier steps stays true.
    """
    model, tokens = job.model, job.tokens
    guidance = build_guidance(job.plan)
    process, dtype = model.family.process, model.placement.dtype
    told = [tokens.positive] if tokens.negative is None else [tokens.positive, tokens.negative]
    both = torch.cat([one.tokens for one in told])
    vector, beside = build_vector(job, leg, told), None if canvas is None else canvas.beside

    def denoise(noisy: Tensor, moment: Moment) -> Tensor:
        asked = len(both) if guidance.acts_at(moment.t) else 1
        timestep = torch.full((asked,), process.timestep(moment.t), device=noisy.device)
        seen = (noisy if beside is None else torch.cat([noisy, beside], dim=1)).to(dtype)
        own = None if vector is None else vector[:asked]
        output = model.denoiser(seen.expand(asked, -1, -1, -1), timestep, both[:asked], own).float()
        if asked > 1:
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
    record |= {"decoder": model.codec.decoder_fingerprint, "decoder_dtype": decoded.dtype, **model.extras.to_record()}
    notes = (*decoded.notes, *to_noise_notes(plan))
    record |= {"dtype_reason": model.placement.reason, "notes": notes, "dtype": name_dtype(model.placement.dtype), **read_versions()}
    alpha = (
        None
        if start is None or plan.raw or start.picture.alpha is None
        else resize(start.picture.alpha, image.shape[-1], image.shape[-2]).clamp(0, 1)
    )
    return Picture(
        image=image,
        alpha=alpha,
        source=f"{plan.prompt} ({seed})",
        notes=notes,
        metadata={"parameters": to_parameters(record), "eightfold": json.dumps(record, ensure_ascii=False)},
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
