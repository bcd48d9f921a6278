"""Qwen-Image (arXiv 2508.02324; QwenLM/Qwen-Image). The editing models have the same tensors."""

from ..specs.family import KnownFamily
from ..specs.mark import Mark
from .spaces import QWEN

QWEN_IMAGE = KnownFamily(
    name="qwen-image",
    space=QWEN,
    marks=(
        Mark("txt_norm.weight", (3584,)),
        Mark("img_in.weight", (None, 64)),
        Mark("transformer_blocks.59.img_mod.1.weight"),
        Mark("transformer_blocks.0.attn.add_k_proj.weight"),
    ),
)
