"""Hunyuan Image 2.1 and its refiner (Tencent-Hunyuan/HunyuanImage-2.1)."""

from ..specs.family import Edition, KnownFamily
from ..specs.mark import Mark
from .keymaps.hunyuan import HUNYUAN as KEYMAP
from .keymaps.hunyuan import HUNYUAN_REFINER as REFINER_KEYMAP
from .spaces import HUNYUAN, HUNYUAN_REFINER

PIXELS_IN = "x_embedder.proj.weight"
GUIDED = "time_guidance_embed.guidance_embedder.linear_1.weight"

HUNYUAN_IMAGE = KnownFamily(
    name="hunyuan-image",
    space=HUNYUAN,
    marks=(
        Mark("context_embedder.token_refiner.refiner_blocks.0.norm1.weight"),
        Mark("context_embedder.proj_in.weight", (None, 3584)),
        Mark("single_transformer_blocks.0.attn.norm_q.weight"),
    ),
    editions=(
        Edition(name="base", marks=(Mark(PIXELS_IN, (None, 64, 1, 1)), Mark(GUIDED, absent=True)), keymap=KEYMAP),
        Edition(name="distilled", marks=(Mark(PIXELS_IN, (None, 64, 1, 1)), Mark(GUIDED)), keymap=KEYMAP),
        Edition(name="refiner", marks=(Mark(PIXELS_IN, (None, 128, 1, 1, 1)),), space=HUNYUAN_REFINER, keymap=REFINER_KEYMAP),
    ),
)
