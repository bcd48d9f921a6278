"""Chroma1 and, in pixel space, Chroma1-Radiance (lodestone-rock/flow): FLUX.1 with one small network for all modulations."""

from ..specs.family import KnownFamily
from ..specs.mark import Mark
from .keymaps.flux1 import CHROMA as CHROMA_KEYMAP
from .keymaps.flux1 import RADIANCE as RADIANCE_KEYMAP
from .spaces import FLUX1, PIXELS

MODULATED = Mark("distilled_guidance_layer.in_proj.weight", (None, 64))

CHROMA = KnownFamily(
    name="chroma",
    space=FLUX1,
    marks=(
        MODULATED,
        Mark("x_embedder.weight", (None, 64)),
        Mark("context_embedder.weight", (None, 4096)),
        Mark("single_transformer_blocks.37.attn.norm_q.weight"),
    ),
    keymap=CHROMA_KEYMAP,
)

RADIANCE = KnownFamily(
    name="radiance",
    space=PIXELS,
    marks=(MODULATED, Mark("img_in_patch.weight", (None, 3, 16, 16)), Mark("nerf_blocks.0.param_generator.weight")),
    keymap=RADIANCE_KEYMAP,
)
