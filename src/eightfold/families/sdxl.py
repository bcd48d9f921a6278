"""Stable Diffusion XL (arXiv 2307.01952; Stability-AI/generative-models)."""

from dataclasses import replace

from ..specs.family import Defaults, Edition, Family, Reading
from ..specs.mark import Mark
from ..specs.network import UNetConfig, VectorConfig
from .clip import SDXL_REFINER_TEXT, SDXL_TEXT
from .keymaps.unet import SD_UNET, SDXL_UNET
from .processes import SDXL_PROCESS, SDXL_ZERO_TERMINAL
from .spaces import SDXL

BASE = (
    Mark("add_embedding.linear_1.weight", (None, 2816)),
    Mark("down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k.weight", (None, 2048)),
)
TOLD = "time_embedding.cond_proj.weight"
SIZES = ("height", "width", "top", "left")
UNET = UNetConfig(
    channels=4,
    out_channels=4,
    context=2048,
    multipliers=(1, 2, 4),
    attention=(0, 2, 10),
    middle=10,
    head_width=64,
    linear_projection=True,
    vector=VectorConfig(pooled=1280, numbers=(*SIZES, "target_height", "target_width")),
)
REFINER = UNetConfig(
    channels=4,
    out_channels=4,
    context=1280,
    width=384,
    attention=(0, 4, 4, 0),
    middle=4,
    head_width=64,
    linear_projection=True,
    vector=VectorConfig(pooled=1280, numbers=(*SIZES, "aesthetic_score")),
)

SDXL_FAMILY = Family(
    name="sdxl",
    space=SDXL,
    denoiser=UNET,
    text=SDXL_TEXT,
    process=SDXL_PROCESS,
    prediction="noise",
    readings=(
        Reading(key="ztsnr", prediction="velocity", process=SDXL_ZERO_TERMINAL),
        Reading(key="v_pred", prediction="velocity"),
    ),
    defaults=Defaults(size=(1024, 1024), steps=30, sampler="dpm++2m", grid="karras", guidance=5.0),
    marks=(Mark("conv_in.weight"), Mark("down_blocks.0.attentions.0.proj_in.weight", absent=True)),
    editions=(
        Edition(name="base", marks=(*BASE, Mark("conv_in.weight", (None, 4, 3, 3)), Mark(TOLD, absent=True))),
        Edition(
            name="lcm",
            marks=(*BASE, Mark("conv_in.weight", (None, 4, 3, 3)), Mark(TOLD, (None, 256))),
            denoiser=replace(UNET, guidance=256),
            defaults=Defaults(size=(1024, 1024), steps=4, sampler="lcm", grid="lcm", guidance=8.0),  # diffusers' guide to them
        ),
        Edition(
            name="inpaint",
            marks=(*BASE, Mark("conv_in.weight", (None, 9, 3, 3))),
            denoiser=replace(UNET, channels=9),
            reads=("mask", "picture"),
        ),
        Edition(
            name="instruct",
            marks=(*BASE, Mark("conv_in.weight", (None, 8, 3, 3))),
            denoiser=replace(UNET, channels=8),
            reads=("picture",),
        ),
        Edition(
            name="refiner",
            marks=(
                Mark("conv_in.weight", (None, 4, 3, 3)),
                Mark("add_embedding.linear_1.weight", (None, 2560)),
                Mark("mid_block.attentions.0.transformer_blocks.3.attn2.to_k.weight", (None, 1280)),
                Mark("down_blocks.3.resnets.1.conv1.weight"),
            ),
            keymap=SD_UNET,
            denoiser=REFINER,
            text=SDXL_REFINER_TEXT,
            handover=0.8,  # diffusers' documentation of XL and its `denoising_end`
        ),
    ),
    keymap=SDXL_UNET,
)
