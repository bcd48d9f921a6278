"""Stable Diffusion XL (arXiv 2307.01952; Stability-AI/generative-models)."""

from dataclasses import replace

from ..specs.family import Defaults, Edition, Family, Reading
from ..specs.mark import Mark
from ..specs.network import UNetConfig, VectorConfig
from .clip import SDXL_REFINER_TEXT, SDXL_TEXT
from .keymaps.unet import SD_UNET, SDXL_UNET
from .processes import COSXL_PROCESS, PLAYGROUND_PROCESS, SAYS_VELOCITY, SAYS_ZERO_TERMINAL, SDXL_PROCESS, ZERO_TERMINAL
from .sd1 import TOLD
from .spaces import SDXL

DEFAULTS = Defaults(size=(1024, 1024), steps=30, sampler="dpm++2m", grid="karras", guidance=5.0)
BASE = (
    Mark("add_embedding.linear_1.weight", (None, 2816)),
    Mark("down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k.weight", (None, 2048)),
)
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

# The tensors are the marks that ComfyUI goes by (comfy/supported_models.py)
READINGS = (
    # CosXL; its grid is that of diffusers' EDMEulerScheduler for it
    Reading(
        key="edm_vpred.sigma_max",
        prediction="velocity",
        process=COSXL_PROCESS,
        levels=("edm_vpred.sigma_min", "edm_vpred.sigma_max"),
        defaults=replace(DEFAULTS, grid="exponential"),
    ),
    # Playground 2.5; folders of other fine-tunes name its scheduler too, so the latents' statistics are what counts
    Reading(
        key="edm_mean",
        declared=(("vae.latents_mean", None),),
        prediction="edm",
        process=PLAYGROUND_PROCESS,
        moments=("edm_mean", "edm_std"),
        defaults=replace(DEFAULTS, guidance=3.0),
    ),
    # a process that ends in noise alone has no grid over noise levels
    Reading(
        key="ztsnr",
        declared=SAYS_ZERO_TERMINAL,
        prediction="velocity",
        process=ZERO_TERMINAL,
        defaults=replace(DEFAULTS, grid="trailing"),
    ),
    Reading(
        key="v_pred",
        declared=SAYS_VELOCITY,
        prediction="velocity",
    ),
)

SDXL_FAMILY = Family(
    name="sdxl",
    space=SDXL,
    denoiser=UNET,
    text=SDXL_TEXT,
    process=SDXL_PROCESS,
    prediction="noise",
    readings=READINGS,
    defaults=DEFAULTS,
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
            reads=("mask", "covered"),
        ),
        Edition(
            name="instruct",
            marks=(*BASE, Mark("conv_in.weight", (None, 8, 3, 3))),
            denoiser=replace(UNET, channels=8),
            reads=("raw",),
            # CosXL's editing model is shown the latent as others see it (ComfyUI comfy/supported_models.py; diffusers' is_cosxl_edit)
            readings=(replace(READINGS[0], reads=("latent",)), *READINGS[1:]),
            picture_guidance=1.5,
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
