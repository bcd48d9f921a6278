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
    """What a leg begins from: the picture of the leg before, else the one that was given, else nothing."""
    if latent is None:
        return None if job.start is None else encode_start(job, job.start, leg, seed)
    image = job.model.codec.decode_one(job.model.codec.denormalise(latent)).image
    if job.enlarger is not None:
        image = job.enlarger.enlarge(image).image
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
