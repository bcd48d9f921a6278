"""Stable Diffusion 1.x (arXiv 2112.10752; configuration v1-inference of CompVis/stable-diffusion)."""

from ..specs.family import Defaults, Family
from ..specs.mark import Mark
from ..specs.network import UNetConfig
from ..specs.process import ScaledLinear
from .spaces import SD

SD1 = Family(
    name="sd1",
    space=SD,
    denoiser=UNetConfig(channels=4, out_channels=4, context=768, heads=8),
    text=None,
    process=ScaledLinear(),
    prediction="noise",
    defaults=Defaults(size=(512, 512), steps=30, sampler="dpm++2m", grid="karras", guidance=7.5),
    marks=(
        Mark("conv_in.weight", (320, 4, 3, 3)),
        Mark("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", (320, 768)),
    ),
)
