"""What other programs call our samplers and grids. No torch here: readers of metadata use it.

Names are compared without regard to case, spaces, dashes and underscores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.errors import UnknownName

# A1111 and its short names, ComfyUI, InvokeAI and diffusers, where they differ from ours by more than how they are written
SAMPLER_ALIASES: dict[str, tuple[str, ...]] = {
    "ddpm": ("DDPMScheduler",),
    "ddim": ("DDIMScheduler",),
    "euler": ("k_euler", "EulerDiscreteScheduler"),
    "euler-ancestral": ("Euler a", "k_euler_a", "k_euler_ancestral", "EulerAncestralDiscreteScheduler"),
    "heun": ("k_heun", "HeunDiscreteScheduler"),
    "dpm2": ("k_dpm_2", "KDPM2DiscreteScheduler"),
    "dpm2-ancestral": ("DPM2 a", "k_dpm_2_a", "k_dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler"),
    "dpm++2s-ancestral": ("DPM++ 2S a", "dpmpp_2s_ancestral", "k_dpmpp_2s_a", "k_dpmpp_2s_ancestral"),
    "dpm++2m": ("dpmpp_2m", "k_dpmpp_2m", "DPMSolverMultistepScheduler"),
    "dpm++2m-sde": ("dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "k_dpmpp_2m_sde"),
    "dpm++3m": ("dpmpp_3m",),
    "dpm++3m-sde": ("dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "k_dpmpp_3m_sde"),
    "dpm++sde": ("dpmpp_sde", "dpmpp_sde_gpu", "k_dpmpp_sde", "DPMSolverSDEScheduler"),
    "lms": ("k_lms", "LMSDiscreteScheduler"),
    "plms": ("pndm", "PNDMScheduler"),
    "unipc": ("uni_pc_bh2", "UniPCMultistepScheduler"),
    "unipc3": (),
    "lcm": ("k_lcm", "LCMScheduler"),
}
# "simple" and "SGM Uniform" differ from `trailing` by less than one trained time
GRID_ALIASES: dict[str, tuple[str, ...]] = {
    "uniform": ("normal", "linspace"),
    "leading": ("ddim_uniform",),
    "trailing": ("simple", "SGM Uniform"),
    "karras": ("k", "ka"),
    "exponential": (),
    "beta": (),
    "ays": ("Align Your Steps", "AYS SD1", "AYS SDXL"),
    "lcm": (),
}


def find_sampler(name: str) -> tuple[str, str | None]:
    """Our sampler, and our grid if the name says one: "DPM++ 2M Karras" is ("dpm++2m", "karras"), "Euler a" ("euler-ancestral", None).

    Raises UnknownName.
    """
    samplers, grids = invert(SAMPLER_ALIASES), invert(GRID_ALIASES)
    wanted = fold(name)
    if wanted in samplers:
        return samplers[wanted], None
    for cut in range(len(wanted) - 1, 0, -1):
        if wanted[:cut] in samplers and wanted[cut:] in grids:
            return samplers[wanted[:cut]], grids[wanted[cut:]]
    raise UnknownName("sampler", name, list_names(SAMPLER_ALIASES))


def find_grid(name: str) -> str | None:
    """Our grid; None for "Automatic", where the other program chose by the sampler. Raises UnknownName."""
    if fold(name) == "automatic":
        return None
    grids = invert(GRID_ALIASES)
    if fold(name) not in grids:
        raise UnknownName("grid", name, list_names(GRID_ALIASES))
    return grids[fold(name)]


def fold(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter not in " -_")


def invert(aliases: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {fold(name): ours for ours, others in aliases.items() for name in (ours, *others)}


def list_names(aliases: Mapping[str, Sequence[str]]) -> list[str]:
    return [name for ours, others in aliases.items() for name in (ours, *others)]
