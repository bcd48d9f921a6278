"""What a leg of a run begins from: nothing, a picture, or the picture of the leg before, as the network sees them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.predict import add_noise
from .job import Job, Leg
from .noise import to_amplitude
from .start import Start, resize, to_cells


@dataclass(frozen=True, eq=False)
class Canvas:
    """The latent of the picture that a leg begins from, and what of it may be drawn: 1 in such cells (None: all). `beside` is what the
    network is shown next to the noisy latent.
    """

    clean: Float[Tensor, "1 c h w"]
    cells: Float[Tensor, "1 1 h w"] | None = None
    beside: Float[Tensor, "1 c2 h w"] | None = None


def enter(job: Job, leg: Leg, latent: Tensor | None, seed: int) -> Canvas | None:
    """What a leg begins from: the picture of the leg before, else the one that was given, else nothing.

    Of one that goes on with a noisy state it is only what a mask keeps.
    """
    if latent is None:
        return None if job.start is None else encode_start(job, job.start, leg, seed)
    if leg.goes_on:
        return None if job.start is None or job.start.mask is None else encode_start(job, job.start, leg, seed)
    image = job.model.codec.decode_one(job.model.codec.denormalise(latent)).image
    if job.enlarger is not None:
        image = job.enlarger.enlarge(image).image
    clean = encode(job, resize(image, leg.width, leg.height).clamp(-1, 1), seed)
    return Canvas(clean, beside=None if job.start is None else show(job, job.start, leg, seed))


def encode(job: Job, image: Float[Tensor, "1 3 h w"], seed: int) -> Float[Tensor, "1 c h w"]:
    codec, device = job.model.codec, job.model.placement.device
    return codec.normalise(codec.encode_start(image, seed=seed).raw.to(device))


def encode_start(job: Job, start: Start, leg: Leg, seed: int) -> Canvas:
    """A network that is shown the mask needs no help in keeping what is outside of it."""
    clean, mask = encode(job, start.show(leg.width, leg.height), seed), start.show_mask(leg.width, leg.height)
    keeps = mask is None or "mask" in job.find_model(leg).family.reads
    cells = None if keeps or mask is None else to_cells(mask, job.model.codec.space.latent_downscale).to(clean.device)
    return Canvas(clean, cells, show(job, start, leg, seed))


def show(job: Job, start: Start, leg: Leg, seed: int) -> Float[Tensor, "1 c h w"] | None:
    """What the network reads of the picture and its mask, one behind the other; None where it reads nothing."""
    codec, device = job.model.codec, job.model.placement.device
    image, mask = start.show(leg.width, leg.height), start.show_mask(leg.width, leg.height)
    parts: list[Tensor] = []
    for one in job.find_model(leg).family.reads:
        if one == "mask" and mask is not None:
            parts.append((to_cells(mask, codec.space.latent_downscale) > 0).float().to(device))
        elif one == "covered" and mask is not None:
            parts.append(encode(job, torch.where(mask < 0.5, image, 0.0), seed))
        elif one in ("raw", "latent"):
            raw = codec.encode(image).raw.to(device)
            parts.append(raw if one == "raw" else codec.normalise(raw))
    return torch.cat(parts, dim=1) if parts else None


def begin(noise: Float[Tensor, "1 c h w"], canvas: Canvas | None, job: Job, leg: Leg) -> Float[Tensor, "1 c h w"]:
    """The state that sampling begins with: where all of the grid is gone through, nothing is left of a picture to begin from."""
    process, t = job.model.family.process, leg.times[0]
    if canvas is None or leg.whole == job.plan.steps:
        return to_amplitude(job.plan, process, t) * noise
    return add_noise(canvas.clean, noise, process.alpha(t), process.sigma(t))
