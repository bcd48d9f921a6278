"""Stable Diffusion XL (arXiv 2307.01952; Stability-AI/generative-models)."""

from ..specs.family import Edition, KnownFamily
from ..specs.mark import Mark
from .keymaps.unet import SD_UNET, SDXL_UNET
from .spaces import SDXL

BASE = (
    Mark("add_embedding.linear_1.weight", (None, 2816)),
    Mark("down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k.weight", (None, 2048)),
)

SDXL_FAMILY = KnownFamily(
    name="sdxl",
    space=SDXL,
    marks=(Mark("conv_in.weight"), Mark("down_blocks.0.attentions.0.proj_in.weight", absent=True)),
    editions=(
        Edition(name="base", marks=(*BASE, Mark("conv_in.weight", (None, 4, 3, 3)))),
        Edition(name="inpaint", marks=(*BASE, Mark("conv_in.weight", (None, 9, 3, 3)))),
        Edition(name="instruct", marks=(*BASE, Mark("conv_in.weight", (None, 8, 3, 3)))),
        Edition(
            name="refiner",
            marks=(
                Mark("conv_in.weight", (None, 4, 3, 3)),
                Mark("add_embedding.linear_1.weight", (None, 2560)),
                Mark("mid_block.attentions.0.transformer_blocks.3.attn2.to_k.weight", (None, 1280)),
                Mark("down_blocks.3.resnets.1.conv1.weight"),
            ),
            keymap=SD_UNET,
        ),
    ),
    keymap=SDXL_UNET,
)
