"""PixArt-alpha (arXiv 2310.00426) and PixArt-sigma (arXiv 2403.04692; PixArt-alpha/PixArt-sigma).

The small alpha and sigma have the same tensors but for the learned empty caption, which only the original layout keeps: of 120 tokens for
alpha, of 300 for sigma.
"""

from ..specs.family import Edition, KnownFamily
from ..specs.mark import Mark
from .keymaps.pixart import PIXART
from .spaces import SD, SDXL

COMMON = (
    Mark("adaln_single.linear.weight"),
    Mark("caption_projection.linear_1.weight", (None, 4096)),
    Mark("pos_embed.proj.weight", (None, 4, 2, 2)),
    Mark("transformer_blocks.27.scale_shift_table"),
)
SIZED = "adaln_single.emb.resolution_embedder.linear_1.weight"
EMPTY = "y_embedder.y_embedding"

PIXART_ALPHA = KnownFamily(
    name="pixart-alpha",
    space=SD,
    marks=COMMON,
    editions=(
        Edition(name="1024", marks=(Mark(SIZED),)),
        Edition(name="512", marks=(Mark(SIZED, absent=True), Mark(EMPTY, (300, None), absent=True))),
    ),
    keymap=PIXART,
)

PIXART_SIGMA = KnownFamily(
    name="pixart-sigma",
    space=SDXL,
    marks=(*COMMON, Mark(SIZED, absent=True), Mark(EMPTY, (120, None), absent=True)),
    keymap=PIXART,
)
