"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206; Stability-AI/sd3.5)."""

from ..specs.family import Edition, KnownFamily
from ..specs.mark import Mark
from .keymaps.sd3 import SD3_LARGE, SD3_MEDIUM
from .spaces import SD3

NORMED, TWICE = "transformer_blocks.0.attn.norm_q.weight", "transformer_blocks.0.attn2.norm_q.weight"
LAST_OF_MEDIUM = "transformer_blocks.23.norm1.linear.weight"
BEYOND = Mark("transformer_blocks.24.norm1.linear.weight", absent=True)

SD3_FAMILY = KnownFamily(
    name="sd3",
    space=SD3,
    marks=(
        Mark("pos_embed.proj.weight", (None, 16, 2, 2)),
        Mark("context_embedder.weight", (None, 4096)),
        Mark("time_text_embed.text_embedder.linear_1.weight", (None, 2048)),
    ),
    editions=(
        Edition(
            name="medium",
            marks=(Mark(LAST_OF_MEDIUM), BEYOND, Mark(NORMED, absent=True)),
            keymap=SD3_MEDIUM,
        ),
        Edition(
            name="3.5-medium",
            marks=(Mark(LAST_OF_MEDIUM), BEYOND, Mark(NORMED), Mark(TWICE)),
            keymap=SD3_MEDIUM,
        ),
        Edition(
            name="3.5-large",
            marks=(Mark("transformer_blocks.37.norm1.linear.weight"), Mark(NORMED)),
            keymap=SD3_LARGE,
        ),
    ),
)
