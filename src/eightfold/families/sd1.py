"""Stable Diffusion 1.x (arXiv 2112.10752; configuration v1-inference of CompVis/stable-diffusion)."""

from dataclasses import replace

from ..specs.family import Defaults, Edition, Family, Reading
from ..specs.mark import Mark
from ..specs.network import UNetConfig
from .clip import SD1_TEXT
from .keymaps.unet import SD_UNET
from .processes import SAYS_VELOCITY, SAYS_ZERO_TERMINAL, SD_PROCESS, ZERO_TERMINAL
from .spaces import SD

UNET = UNetConfig(channels=4, out_channels=4, context=768, heads=8)
DEFAULTS = Defaults(size=(512, 512), steps=30, sampler="dpm++2m", grid="karras", guidance=7.5)
TOLD = "time_embedding.cond_proj.weight"
READINGS = (
    Reading(
        declared=SAYS_ZERO_TERMINAL,
        prediction="velocity",
        process=ZERO_TERMINAL,
        defaults=replace(DEFAULTS, grid="trailing"),
    ),
    Reading(declared=SAYS_VELOCITY, prediction="velocity"),
)

SD1 = Family(
    name="sd1",
    space=SD,
    denoiser=UNET,
    text=SD1_TEXT,
    process=SD_PROCESS,
    prediction="noise",
    readings=READINGS,
    defaults=DEFAULTS,
    marks=(
        Mark("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", (None, 768)),
        Mark("down_blocks.0.attentions.0.proj_in.weight", (None, None, 1, 1)),
        Mark("down_blocks.3.resnets.1.conv1.weight"),
        Mark("add_embedding.linear_1.weight", absent=True),
    ),
    editions=(
        Edition(name="base", marks=(Mark("conv_in.weight", (None, 4, 3, 3)), Mark(TOLD, absent=True))),
        # latent consistency models (arXiv 2310.04378); the defaults are those of diffusers' pipeline for them
        Edition(
            name="lcm",
            marks=(Mark("conv_in.weight", (None, 4, 3, 3)), Mark(TOLD, (None, 256))),
            denoiser=replace(UNET, guidance=256),
            defaults=Defaults(size=(512, 512), steps=4, sampler="lcm", grid="lcm", guidance=8.5),
        ),
        Edition(
            name="inpaint",
            marks=(Mark("conv_in.weight", (None, 9, 3, 3)),),
            denoiser=replace(UNET, channels=9),
            reads=("mask", "covered"),
        ),
        # InstructPix2Pix (arXiv 2211.09800; timothybrooks/instruct-pix2pix)
        Edition(
            name="instruct",
            marks=(Mark("conv_in.weight", (None, 8, 3, 3)),),
            denoiser=replace(UNET, channels=8),
            reads=("raw",),
            picture_guidance=1.5,
        ),
    ),
    keymap=SD_UNET,
)
