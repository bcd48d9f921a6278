"""Stable Diffusion 2.x (Stability-AI/stablediffusion). Whether a file predicts noise or velocity shows only in the size of its weights."""

from dataclasses import replace

from ..specs.family import Defaults, Edition, Family, Reading
from ..specs.mark import Mark
from ..specs.network import UNetConfig
from .clip import SD2_TEXT
from .keymaps.unet import SD_UNET
from .processes import SAYS_NOISE, SAYS_VELOCITY, SAYS_ZERO_TERMINAL, SD_PROCESS, ZERO_TERMINAL
from .spaces import SD

UNET = UNetConfig(channels=4, out_channels=4, context=1024, head_width=64, linear_projection=True)
DEFAULTS = Defaults(size=(512, 512), steps=30, sampler="dpm++2m", grid="karras", guidance=7.5)
LARGE = replace(DEFAULTS, size=(768, 768))

SD2 = Family(
    name="sd2",
    space=SD,
    denoiser=UNET,
    text=SD2_TEXT,
    process=SD_PROCESS,
    prediction="noise",
    readings=(
        Reading(declared=SAYS_ZERO_TERMINAL, prediction="velocity", process=ZERO_TERMINAL, defaults=replace(LARGE, grid="trailing")),
        Reading(declared=SAYS_VELOCITY, prediction="velocity", defaults=LARGE),
        Reading(declared=SAYS_NOISE, prediction="noise"),
        # the mark that ComfyUI goes by (comfy/supported_models.py)
        Reading(key="up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias", spread=0.09, prediction="velocity", defaults=LARGE),
    ),
    defaults=DEFAULTS,
    marks=(
        Mark("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", (None, 1024)),
        Mark("down_blocks.0.attentions.0.proj_in.weight", (None, None)),
        Mark("down_blocks.3.resnets.1.conv1.weight"),
        Mark("add_embedding.linear_1.weight", absent=True),
        Mark("class_embedding.linear_1.weight", absent=True),
        Mark("class_embedding.weight", absent=True),
    ),
    editions=(
        Edition(name="base", marks=(Mark("conv_in.weight", (None, 4, 3, 3)),)),
        Edition(
            name="inpaint",
            marks=(Mark("conv_in.weight", (None, 9, 3, 3)),),
            denoiser=replace(UNET, channels=9),
            reads=("mask", "covered"),
        ),
        Edition(name="depth", marks=(Mark("conv_in.weight", (None, 5, 3, 3)),), denoiser=replace(UNET, channels=5), reads=("depth",)),
    ),
    keymap=SD_UNET,
)
