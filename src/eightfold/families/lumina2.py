"""Lumina-Image 2.0 (arXiv 2503.21758; Alpha-VLLM/Lumina-Image-2.0)."""

from ..specs.family import KnownFamily
from ..specs.mark import Mark
from .keymaps.lumina2 import LUMINA2 as KEYMAP
from .spaces import FLUX1

LUMINA2 = KnownFamily(
    name="lumina2",
    space=FLUX1,
    marks=(
        Mark("time_caption_embed.caption_embedder.1.weight", (None, 2304)),
        Mark("noise_refiner.1.attn.norm_k.weight"),
        Mark("context_refiner.1.attn.norm_k.weight"),
        Mark("layers.25.attn.norm_k.weight"),
    ),
    keymap=KEYMAP,
)
