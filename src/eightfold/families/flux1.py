"""FLUX.1 (black-forest-labs/flux). Dev is told how strongly to follow the prompt, schnell is not."""

from ..specs.family import Edition, KnownFamily
from ..specs.mark import Mark
from .keymaps.flux1 import FLUX1 as KEYMAP
from .spaces import FLUX1

PIXELS_IN = "x_embedder.weight"
GUIDED = "time_text_embed.guidance_embedder.linear_1.weight"

FLUX1_FAMILY = KnownFamily(
    name="flux1",
    space=FLUX1,
    marks=(
        Mark("time_text_embed.text_embedder.linear_1.weight", (None, 768)),
        Mark("context_embedder.weight", (None, 4096)),
        Mark("transformer_blocks.18.norm1.linear.weight"),
        Mark("single_transformer_blocks.37.norm.linear.weight"),
    ),
    editions=(
        Edition(name="dev", marks=(Mark(PIXELS_IN, (None, 64)), Mark(GUIDED))),
        Edition(name="schnell", marks=(Mark(PIXELS_IN, (None, 64)), Mark(GUIDED, absent=True))),
        Edition(name="control", marks=(Mark(PIXELS_IN, (None, 128)), Mark(GUIDED))),  # depth or canny: the tensors do not say
        Edition(name="fill", marks=(Mark(PIXELS_IN, (None, 384)), Mark(GUIDED))),
    ),
    keymap=KEYMAP,
)
