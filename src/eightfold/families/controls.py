"""ControlNets for Stable Diffusion (arXiv 2302.05543; lllyasviel/ControlNet cldm/cldm.py; for XL those of diffusers).

What they were trained to be shown (edges, depth, poses) does not change the tensors, and no file says it. Networks for several kinds of
pictures at once have tensors more, of which one is marked absent.
"""

from ..specs.control import KnownControl
from ..specs.mark import Mark
from .keymaps.control import SD_CONTROL
from .sd1 import SD1
from .sd2 import SD2
from .sdxl import SDXL_FAMILY

EVERY = (
    Mark("controlnet_cond_embedding.conv_in.weight", (None, 3, 3, 3)),
    Mark("controlnet_mid_block.weight"),
    Mark("conv_in.weight", (None, 4, 3, 3)),
    Mark("task_embedding", absent=True),
)
# A copy of a U-Net's way down has the marks of the U-Net, too. No keymap of a U-Net knows these, so both layouts' names are here
NO_CONTROL = (
    Mark("controlnet_cond_embedding.conv_in.weight", absent=True),
    Mark("controlnet_mid_block.weight", absent=True),
    Mark("input_hint_block.0.weight", absent=True),
    Mark("middle_block_out.0.weight", absent=True),
)
FIRST_TEXT = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"

SD1_CONTROL = KnownControl(family=SD1, marks=(*EVERY, Mark(FIRST_TEXT, (None, 768))), keymap=SD_CONTROL)
SD2_CONTROL = KnownControl(family=SD2, marks=(*EVERY, Mark(FIRST_TEXT, (None, 1024))), keymap=SD_CONTROL)
SDXL_CONTROL = KnownControl(
    family=SDXL_FAMILY,
    marks=(
        *EVERY,
        Mark("add_embedding.linear_1.weight", (None, 2816)),
        Mark("down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k.weight", (None, 2048)),
    ),
    keymap=SD_CONTROL,
)
