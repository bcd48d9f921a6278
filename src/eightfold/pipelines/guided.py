"""The denoiser as samplers call it: guided, told what there is to tell, and kept to what is to stay."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.device import name_dtype
from ..core.errors import EightfoldError
from ..denoisers.unet import to_vector
from ..diffusion.guidance import ClassifierFree
from ..diffusion.moves import Denoise, Moment
from ..diffusion.predict import to_clean
from ..specs.family import Family
from ..text.condition import Condition
from .bundle import Model
from .canvas import Canvas
from .control import Control, sum_controls
from .job import Job, Leg
from .request import Plan

AESTHETIC = (6.0, 2.5)  # how pictures are to look and not to look, out of 10 (Stability-AI/generative-models, sgm/inference/api.py)


def build_guidance(plan: Plan, family: Family) -> ClassifierFree:
    """None, that is a scale of 1, for a network that is told the scale. Raises RequestError for what cannot be."""
    asked = ClassifierFree(plan.guidance, plan.rescale, plan.interval)
    return asked if family.denoiser.guidance is None else ClassifierFree(1.0)


def build_denoise(job: Job, leg: Leg, canvas: Canvas | None) -> Denoise:
    """noisy at a moment -> clean, guided: what samplers call. The state stays float32; the network runs in its own dtype.

    Where the canvas is not to be drawn the clean latent is its own, whatever the network says: so the state there stays the canvas with
    the noise that it began with, in every sampler, and what a sampler remembers of earlier steps stays true.
    """
    model, tokens = job.find_model(leg), job.find_tokens(leg)
    guidance = build_guidance(job.plan, model.family)
    process, dtype = model.family.process, model.placement.dtype
    told = [tokens.positive] if tokens.negative is None else [tokens.positive, tokens.negative]
    both = torch.cat([one.tokens for one in told])
    controls = to_controls(job, leg)
    vector, beside = build_vector(model, leg, told), None if canvas is None else canvas.beside
    scale = {} if model.family.denoiser.guidance is None else {"guidance": torch.tensor([job.plan.guidance], device=both.device)}

    def denoise(noisy: Tensor, moment: Moment) -> Tensor:
        asked = len(both) if guidance.acts_at(moment.t) else 1
        timestep = torch.full((asked,), process.timestep(moment.t), device=noisy.device)
        seen = (noisy if beside is None else torch.cat([noisy, beside], dim=1)).to(dtype)
        words = both[:asked], None if vector is None else vector[:asked]
        alone = noisy.to(dtype).expand(asked, -1, -1, -1)
        added = sum_controls(controls, alone, timestep, *words, step=leg.before + moment.index, steps=leg.whole) if controls else None
        output = model.denoiser(seen.expand(asked, -1, -1, -1), timestep, *words, added, **scale).float()
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


def to_controls(job: Job, leg: Leg) -> list[Control]:
    """The ControlNets at work in a leg: none in the refiner's, for which they were not made."""
    if leg.refines:
        return []
    return [one.to_control(leg.width, leg.height, job.model.codec.space.latent_downscale) for one in job.guides]


def build_vector(model: Model, leg: Leg, told: Sequence[Condition]) -> Float[Tensor, "b v"] | None:
    """What the network is told beside tokens, a row for each prompt, the negative one last; None where it is told nothing."""
    config = model.family.denoiser.vector
    if config is None:
        return None
    height, width = float(leg.height), float(leg.width)
    sizes = {"height": height, "width": width, "top": 0.0, "left": 0.0, "target_height": height, "target_width": width}
    rows = [
        to_vector(config, one.pooled, {**sizes, "aesthetic_score": score})
        for one, score in zip(told, AESTHETIC, strict=False)
        if one.pooled is not None
    ]
    return torch.cat(rows).to(model.placement.dtype)
