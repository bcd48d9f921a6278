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
from .running import choose_runner

AESTHETIC = (6.0, 2.5)  # how pictures are to look and not to look, out of 10 (Stability-AI/generative-models, sgm/inference/api.py)


def build_guidance(plan: Plan, family: Family) -> ClassifierFree:
    """None, that is a scale of 1, for a network that is told the scale. Raises RequestError for what cannot be."""
    picture = None if family.picture_guidance is None else plan.picture_guidance  # a refiner is not shown one
    asked = ClassifierFree(plan.guidance, plan.rescale, plan.interval, picture)
    return asked if family.denoiser.guidance is None else ClassifierFree(1.0)


def build_denoise(job: Job, leg: Leg, canvas: Canvas | None) -> Denoise:
    """noisy at a moment -> clean, guided: what samplers call. The state stays float32; the network runs in its own dtype.

    Where the canvas is not to be drawn the clean latent is its own, whatever the network says: so the state there stays the canvas with
    the noise that it began with, in every sampler, and what a sampler remembers of earlier steps stays true.
    """
    model, tokens = job.find_model(leg), job.find_tokens(leg)
    guidance = build_guidance(job.plan, model.family)
    process, dtype = model.family.process, model.placement.dtype
    told = [tokens.positive]
    if tokens.negative is not None:  # the third row of guidance by a picture, which is not shown it, is told the same
        told += [tokens.negative] * (1 if guidance.picture is None else 2)
    both = torch.cat([one.tokens for one in told])
    controls = to_controls(job, leg)
    run_denoiser = choose_runner(model.denoiser, model.placement, model.codec.engine)
    vector, beside = build_vector(model, leg, told), to_beside(canvas, len(told))
    scale = {} if model.family.denoiser.guidance is None else {"guidance": torch.tensor([job.plan.guidance], device=both.device)}

    def denoise(noisy: Tensor, moment: Moment) -> Tensor:
        asked = len(both) if guidance.acts_at(moment.t) else 1
        timestep = torch.full((asked,), process.timestep(moment.t), device=noisy.device)
        words = both[:asked], None if vector is None else vector[:asked]
        alone = noisy.to(dtype).expand(asked, -1, -1, -1)
        seen = alone if beside is None else torch.cat([alone, beside[:asked].to(dtype)], dim=1)
        added = sum_controls(controls, alone, timestep, *words, step=leg.before + moment.index, steps=leg.whole) if controls else None
        output = run_denoiser(seen, timestep, *words, added, **scale).float()
        if asked > 1:
            output = guidance.combine(*(output[index : index + 1] for index in range(asked)))
        clean = to_clean(output, noisy, process.alpha(moment.t), process.sigma(moment.t), model.family.prediction)
        if not bool(torch.isfinite(clean).all()):
            what = f"the denoiser gave values that are not finite at t = {moment.t:.3f}, in {name_dtype(dtype)}"
            raise EightfoldError(what, hint="a lower guidance, or --dtype float32, which has the widest range")
        if canvas is not None and canvas.cells is not None:
            clean = canvas.cells * clean + (1 - canvas.cells) * canvas.clean
        return clean

    return denoise


def to_beside(canvas: Canvas | None, rows: int) -> Float[Tensor, "b c h w"] | None:
    """What the network is shown beside the noisy latent, a row for each output that it is asked for: in a third one nothing, which is 0."""
    if canvas is None or canvas.beside is None:
        return None
    return torch.cat([canvas.beside] * min(rows, 2) + [torch.zeros_like(canvas.beside)] * (rows - 2))


def to_controls(job: Job, leg: Leg) -> list[Control]:
    """The ControlNets at work in a leg: none in the refiner's, for which they were not made."""
    if leg.refines:
        return []
    return [one.to_control(leg.width, leg.height, job.model.codec.space.latent_downscale) for one in job.guides]


def build_vector(model: Model, leg: Leg, told: Sequence[Condition]) -> Float[Tensor, "b v"] | None:
    """What the network is told beside tokens, a row for each prompt, the positive one first; None where it is told nothing."""
    config = model.family.denoiser.vector
    if config is None:
        return None
    height, width = float(leg.height), float(leg.width)
    sizes = {"height": height, "width": width, "top": 0.0, "left": 0.0, "target_height": height, "target_width": width}
    rows = [
        to_vector(config, one.pooled, {**sizes, "aesthetic_score": score})
        for one, score in zip(told, (*AESTHETIC, AESTHETIC[-1]), strict=False)
        if one.pooled is not None
    ]
    return torch.cat(rows).to(model.placement.dtype)
