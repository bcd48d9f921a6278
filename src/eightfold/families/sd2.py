"""Stable Diffusion 2.x (Stability-AI/stablediffusion). Whether a file predicts noise or velocity, its tensors do not say."""

from ..specs.family import Edition, KnownFamily
from ..specs.mark import Mark
from .keymaps.unet import SD_UNET
from .spaces import SD

SD2 = KnownFamily(
    name="sd2",
    space=SD,
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
        Edition(name="inpaint", marks=(Mark("conv_in.weight", (None, 9, 3, 3)),)),
        Edition(name="depth", marks=(Mark("conv_in.weight", (None, 5, 3, 3)),)),
    ),
    keymap=SD_UNET,
)
