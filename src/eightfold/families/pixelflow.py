"""PixelFlow (arXiv 2504.07963; ShoufaChen/PixelFlow), in pixel space: from a class or from text."""

from ..specs.family import Edition, KnownFamily
from ..specs.mark import Mark
from .spaces import PIXELS

PIXELFLOW = KnownFamily(
    name="pixelflow",
    space=PIXELS,
    marks=(Mark("latent_size_embedder.linear_1.weight"), Mark("patch_embed.proj.weight", (None, 3, 4, 4))),
    editions=(
        Edition(name="class", marks=(Mark("class_embedder.embedding_table.weight"),)),
        Edition(name="text", marks=(Mark("transformer_blocks.0.attn2.k_proj.weight", (None, 2048)),)),
    ),
)
