"""ControlNets of Stable Diffusion (lllyasviel/ControlNet cldm/cldm.py): the way down of the U-Net, and what they have beside it.

The original's stem counts the activations between its convolutions, too.
"""

from ...specs.keymap import Keymap, Row
from .unet import WAY_DOWN

SD_CONTROL = Keymap(
    name="sd-control",
    rows=(
        *WAY_DOWN,
        Row("input_hint_block.0.", "controlnet_cond_embedding.conv_in."),
        Row("input_hint_block.{2n+2}.", "controlnet_cond_embedding.blocks.{n<6}."),
        Row("input_hint_block.14.", "controlnet_cond_embedding.conv_out."),
        Row("zero_convs.{n}.0.", "controlnet_down_blocks.{n}."),
        Row("middle_block_out.0.", "controlnet_mid_block."),
    ),
)
