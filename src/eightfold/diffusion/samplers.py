"""Samplers by name. They are generators: one Step out per move, and the caller may send another state back.

The caller owns the loop, so progress, previews, inpainting and cancelling need no callbacks. Every sampler is called as
`sampler(denoise, x, process, times, noise)`; those that draw no noise ignore the last. All start from noise alone (alpha 0) where the
process does: their first move is of first order then.
"""

from __future__ import annotations

from functools import partial

from ..core.errors import RequestError, UnknownName
from .moves import Denoise, Moment, Noise, Sampler, Step, Steps
from .multistep import dpm_multistep, lms, plms
from .singlestep import ddim, dpm_2, dpm_sde, euler, heun, lcm, second_ancestral
from .unipc import unipc

__all__ = ["SAMPLERS", "Denoise", "Moment", "Noise", "Sampler", "Step", "Steps", "build_sampler"]

SAMPLERS: dict[str, Sampler] = {
    "ddpm": partial(ddim, eta=1.0),
    "ddim": ddim,
    "euler": euler,
    "euler-ancestral": partial(ddim, eta=1.0),
    "heun": heun,
    "dpm2": dpm_2,
    "dpm2-ancestral": second_ancestral,
    "dpm++2s-ancestral": partial(second_ancestral, predicts="clean"),
    "dpm++2m": dpm_multistep,
    "dpm++2m-sde": partial(dpm_multistep, eta=1.0),
    "dpm++3m": partial(dpm_multistep, order=3),
    "dpm++3m-sde": partial(dpm_multistep, order=3, eta=1.0),
    "dpm++sde": dpm_sde,
    "lms": lms,
    "plms": plms,
    "unipc": unipc,
    "unipc3": partial(unipc, order=3),
    "lcm": lcm,
}


def build_sampler(name: str, *, eta: float = 0.0) -> Sampler:
    """The sampler called `name`; `eta` in [0, 1] is DDIM's share of fresh noise. UnknownName, or RequestError for an eta that cannot be."""
    if name not in SAMPLERS:
        raise UnknownName("sampler", name, SAMPLERS)
    if eta == 0:
        return SAMPLERS[name]
    if name != "ddim":
        raise RequestError(f"eta {eta} for sampler {name!r}, which has none", hint='leave eta out, or take the sampler "ddim"')
    if not 0 < eta <= 1:
        raise RequestError(f"eta: {eta}; expected 0 to 1", hint="0 draws no noise, 1 as much as ddpm")
    return partial(ddim, eta=eta)
