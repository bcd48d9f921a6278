"""Pictures from a request: the one denoising loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..codec.codec import Codec
from ..codec.explain import Explanation
from ..codec.latentfile import Latent, Padding
from ..codec.pixels import Picture
from ..core.device import name_dtype
from ..core.errors import RequestError, Undecoded
from ..core.rng import Draws, to_noise_source
from ..core.versions import read_versions
from ..diffusion.grid import build_grid
from ..diffusion.samplers import Moment, Sampler, build_sampler
from ..specs.family import Family
from .bundle import Model
from .canvas import begin, enter
from .enlarge import Enlarger, check_enlarger, load_enlarger
from .guided import build_denoise, build_guidance
from .guides import load_guides, read_guides, warn_of_guides
from .job import Job, Leg, Tokens
from .noise import to_noise_notes, vary
from .parameters import to_parameters
from .preview import to_preview
from .prompts import warn_of_prompts
from .remembered import name_codec
from .request import Guide, Plan, Request, to_plan, to_text
from .running import to_record
from .start import Start, count_moves, read_start, resize


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

    def preview(self, decoder: Codec | None = None) -> Picture:
        """What the denoiser expects at this step, one pixel for a cell of the raw latent: takes next to no time.

        With a small `decoder` (`pipelines.preview.load_preview`) in full size, as that one shows it.
        """
        codec, source = self.job.model.codec, f"{self.job.plan.prompt} ({self.seed})"
        raw = codec.denormalise(self.clean)
        if decoder is None:
            return Picture(to_preview(codec, raw), source=source)
        return Picture(decoder.decode_one(raw).image[..., : self.leg.height, : self.leg.width], source=source)

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
    guides = load_guides(outline.guides, model.family, model.placement)
    enlarger = load_enlarger_for(model, plan)
    return run(Job(model, plan, outline.start, tokens or encode_prompts(model, plan), outline.legs, guides, enlarger), sampler)


def load_enlarger_for(model: Model, plan: Plan) -> Enlarger | None:
    """The network between two passes, in as much memory as the model's autoencoder may take."""
    if plan.enlarge_model is None:
        return None
    where, memory = model.placement, model.codec.engine.memory
    return replace(load_enlarger(plan.enlarge_model, device=str(where.device), dtype=name_dtype(where.dtype)), memory=memory)


@dataclass(frozen=True, eq=False)
class Outline:
    """What a request comes to with a model: nothing left open, nothing computed yet. `decoding` tells how it would be decoded.

    `guides` have their pictures, and files that were looked at; no weights.
    """

    plan: Plan
    start: Start | None
    legs: tuple[Leg, ...]
    decoding: Explanation | None
    guides: tuple[Guide, ...] = ()


def resolve(model: Model, request: Request) -> Outline:
    """Raises RequestError for whatever cannot be, and where the decoding would not fit into memory, CheckpointError for a ControlNet that
    was made for other models."""
    check_reads(model, request)
    start = read_start(request, model.family.defaults.size, find_multiple(model.family))
    plan = to_plan(request, model.family, None if start is None else (start.width, start.height))
    plan = replace(plan, handover=choose_handover(model, request))
    for prompt in (request.prompt, request.negative):
        model.text.check(prompt, ignore_unknown=request.ignore_unknown)
    build_sampler(plan.sampler, eta=plan.eta)
    build_guidance(plan, model.family)
    guides = read_guides(request.controls, model.family)
    if plan.enlarge_model is not None:
        check_enlarger(plan.enlarge_model)
    return Outline(plan, start, list_legs(model, plan), model.codec.plan("decode", plan.width, plan.height), guides)


def check_reads(model: Model, request: Request) -> None:
    """A network that is shown a picture or a mask cannot do without."""
    who, reads = f"{model.source} is a {model.family.name} model ({model.edition}) that is shown a", model.family.reads
    if "depth" in reads:
        raise RequestError(
            f"{who} map of depth, which cannot be given it here", hint="another model, with a ControlNet for depth: --control"
        )
    if reads and request.start is None:
        raise RequestError(f"{who} picture", hint="--start IMAGE")
    if "mask" in reads and request.mask is None:
        raise RequestError(f"{who} mask", hint="--start IMAGE --mask MASK")


def choose_handover(model: Model, request: Request) -> float | None:
    """Where the refiner takes over, if there is one. Raises RequestError for a handover to nobody."""
    if model.refiner is not None:
        return model.refiner.family.handover if request.handover is None else request.handover
    if request.handover is not None:
        raise RequestError(f"handover {request.handover}: there is no refiner that could take over", hint="--refiner FILE")
    return None


def list_legs(model: Model, plan: Plan) -> tuple[Leg, ...]:
    """One, or for a picture that is drawn small and drawn over again large, two; each in two parts where a refiner takes over."""
    times = build_grid(plan.grid, model.family.process, plan.steps)
    first = times[-count_moves(plan.steps, plan.strength) - 1 :]
    passes = [Leg(plan.width, plan.height, first)]
    if plan.enlarge > 1:
        width, height = (max(1, round(side / plan.enlarge)) for side in (plan.width, plan.height))
        second = times[-count_moves(plan.steps, plan.enlarge_strength) - 1 :]
        passes = [Leg(width, height, first), Leg(plan.width, plan.height, second)]
    if plan.handover is None:
        return tuple(passes)
    return tuple(part for leg in passes for part in hand_over(leg, plan.handover))


def hand_over(leg: Leg, handover: float) -> tuple[Leg, ...]:
    """A pass in two parts: the moves from times above 1 - handover, and the refiner's; the refiner's alone where it begins below.

    Raises RequestError where no move is left for the refiner.
    """
    own = sum(t > 1 - handover + 1e-9 for t in leg.times[:-1])
    if own == leg.moves:
        what = (
            f"handover {handover}: the last of the {leg.moves} steps begins at the time {leg.times[-2]:.3f}, before the refiner takes over"
        )
        raise RequestError(what, hint="more steps, or an earlier handover")
    if own == 0:
        return (leg._replace(refines=True),)
    rest = leg.moves - own
    return leg._replace(times=leg.times[: own + 1], after=rest), leg._replace(times=leg.times[own:], before=own, refines=True)


def encode_prompts(model: Model, plan: Plan) -> Tokens:
    """The prompt's tokens, and where guidance asks for them the negative prompt's; what a refiner reads in them as well."""
    refiner = None if model.refiner is None else encode_prompts(model.refiner, plan)
    if not build_guidance(plan, model.family).needs_negative:
        return Tokens(model.text.encode([plan.prompt]), None, refiner)
    positive, negative = model.text.encode_pair(plan.prompt, plan.negative or None)
    return Tokens(positive, negative, refiner)


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
            canvas = enter(job, leg, latent, seed)
            if leg.goes_on and latent is not None:
                first = latent
            else:
                noise.turn_to(leg)
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


@torch.no_grad()
def decode(job: Job, leg: Leg, latent: Tensor, seed: int) -> Picture:
    """Latent to a picture of exactly the leg's size, put where it belongs, with the plan in its metadata."""
    model, plan, start = job.model, job.plan, job.start
    decoded = model.codec.decode_one(model.codec.denormalise(latent))
    image = decoded.image[:, :, : leg.height, : leg.width]
    if start is not None and not plan.raw:
        image = start.paste(image, plan.feather)
    record = {**asdict(plan), "seed": seed, "count": 1, "model": model.family.name, "fingerprint": model.fingerprint}
    record |= {"vae": name_codec(model.codec), "decoder": model.codec.decoder_fingerprint, "decoder_dtype": decoded.dtype}
    record |= {**model.extras.to_record(model.family.text), **to_record(model.denoiser)}
    if job.enlarger is not None:
        record |= {"enlarge_model": {"file": job.enlarger.source, "sha256": job.enlarger.sha256}}
    record |= {"controls": [one.to_record() for one in job.guides]}
    record |= {} if model.refiner is None else {"refiner_fingerprint": model.refiner.fingerprint}
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
        warnings=(
            *warn_of_size(plan, model.family),
            *warn_of_prompts(plan, model.family),
            *warn_of_guides(job.guides, leg),
        ),
    )


def warn_of_size(plan: Plan, family: Family) -> tuple[str, ...]:
    """What becomes of pictures that are larger both ways than any that the network has learned from."""
    (width, height), native = (plan.width / plan.enlarge, plan.height / plan.enlarge), family.defaults.size
    if width <= native[0] or height <= native[1]:
        return ()
    factor = max(width / native[0], height / native[1])
    what = f"{plan.width}x{plan.height} is larger than the {to_text(native)} that {family.name} is at home at: objects may appear twice"
    return (f"{what}; --enlarge {factor:.2g} draws small first",)
