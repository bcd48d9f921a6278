"""What other programs do with the noise that they have drawn, and what of theirs is not reproduced."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.rng import to_noise_source
from ..specs.process import Process
from .request import Plan
from .transcode import slerp

# k-diffusion's samplers start from noise times its largest ratio: A1111 modules/sd_samplers_kdiffusion.py, `sample`; all but these, of
# modules/sd_samplers_timesteps.py
A1111_WHOLE = ("ddim", "plms", "unipc", "unipc3")
# diffusers' schedulers in the ratio have an `init_noise_sigma` that depends on `timestep_spacing`: the largest ratio for linspace and
# trailing, else sqrt(ratio**2 + 1), which is 1 in our scale. The others start from the noise as it is
DIFFUSERS_RATIO = ("euler", "euler-ancestral", "heun", "dpm2", "dpm2-ancestral", "lms", "dpm++sde")
DIFFUSERS_SPACINGS = ("uniform", "trailing")
BROWNIAN = {  # samplers whose later noise is from a Brownian tree there
    "a1111": ("dpm++sde", "dpm++2m-sde", "dpm++3m-sde"),
    "comfy": ("dpm++sde", "dpm++2m-sde", "dpm++3m-sde"),
    "diffusers": ("dpm++sde",),
}
NEARLY_PARALLEL = 0.9995


def to_amplitude(plan: Plan, process: Process, t: float) -> float:
    """What the first noise, at time `t`, is multiplied by in the scale of x = alpha * clean + sigma * noise: 1, or the sigma of that time.

    Ours is 1. ComfyUI's is 1 at the largest ratio and sigma below it (comfy/model_sampling.py, EPS.noise_scaling).
    """
    program = to_noise_source(plan.noise_source).program
    whole = {
        "a1111": plan.sampler in A1111_WHOLE,
        "comfy": t == 1,
        "diffusers": plan.sampler not in DIFFUSERS_RATIO or plan.grid not in DIFFUSERS_SPACINGS,
    }
    return 1.0 if whole.get(program, True) else process.sigma(t)


def vary(plan: Plan, noise: Float[Tensor, "1 c h w"], other: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 c h w"]:
    """The plan's share of the way to `other`: along a great circle, which A1111 (modules/rng.py, `slerp`) follows for each column apart."""
    if to_noise_source(plan.noise_source).program != "a1111":
        return slerp(noise, other, plan.variation)
    share = plan.variation
    cosine = torch.cosine_similarity(noise, other, dim=2)[:, :, None]
    if float(cosine.mean()) > NEARLY_PARALLEL:
        return (1 - share) * noise + share * other
    angle = torch.acos(cosine.clamp(-1, 1))
    curved = (torch.sin((1 - share) * angle) * noise + torch.sin(share * angle) * other) / torch.sin(angle)
    return torch.where(torch.sin(angle) > 1e-4, curved, (1 - share) * noise + share * other)  # of one row all are parallel


def to_noise_notes(plan: Plan) -> tuple[str, ...]:
    """What of another program's noise is not reproduced in this plan."""
    program = to_noise_source(plan.noise_source).program
    if plan.sampler in BROWNIAN.get(program, ()):
        return (f"only the first noise is that of {program}, which draws the rest of {plan.sampler} from a Brownian tree",)
    return ()
