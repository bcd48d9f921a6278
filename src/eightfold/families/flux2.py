"""FLUX.2 (black-forest-labs/flux2). The sizes differ in the language model that reads the prompt."""

from ..specs.family import Edition, KnownFamily
from ..specs.mark import Mark
from .keymaps.flux2 import FLUX2 as KEYMAP
from .spaces import FLUX2

TEXT_IN = "context_embedder.weight"

FLUX2_FAMILY = KnownFamily(
    name="flux2",
    space=FLUX2,
    marks=(
        Mark("double_stream_modulation_img.linear.weight"),
        Mark("x_embedder.weight", (None, 128)),
        Mark("single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight"),
    ),
    editions=(
        Edition(name="dev", marks=(Mark(TEXT_IN, (None, 15360)), Mark("single_transformer_blocks.47.attn.norm_q.weight"))),
        Edition(name="klein-4b", marks=(Mark(TEXT_IN, (None, 7680)), Mark("single_transformer_blocks.19.attn.norm_q.weight"))),
        Edition(name="klein-9b", marks=(Mark(TEXT_IN, (None, 12288)), Mark("single_transformer_blocks.23.attn.norm_q.weight"))),
    ),
    keymap=KEYMAP,
)
