"""The pocket family: the small model that comes with the package and draws lit solids."""

from ..specs.family import Defaults, Family
from ..specs.mark import Mark
from ..specs.network import UNetConfig, WordsConfig
from ..specs.process import ScaledLinear
from .spaces import POCKET

WORDS = (
    *("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"),
    *("sphere", "ball", "cube", "box", "cylinder", "can", "tube", "cone"),
    *("small", "tiny", "medium", "large", "big", "matte", "dull", "shiny", "glossy"),
    *("a", "an", "the", "and", "of", "on", "with", "is", "are", "there"),
    *("two", "three", "object", "objects", "picture", "image", "photo", "scene", "render", "ground", "floor"),
    *("plain", "grey", "background", "next", "to", "beside", "left", "right", "in", "front", "behind", "between"),
)

POCKET_FAMILY = Family(
    name="pocket",
    space=POCKET,
    denoiser=UNetConfig(
        channels=4,
        out_channels=4,
        context=96,
        width=64,
        multipliers=(1, 2, 2),
        blocks=1,
        attention=(0, 1, 0),
        head_width=32,
        groups=16,
    ),
    text=WordsConfig(words=WORDS, width=96, layers=2, heads=3, tokens=24),
    process=ScaledLinear(),
    prediction="velocity",
    defaults=Defaults(size=(128, 128), steps=20, sampler="dpm++2m", grid="trailing", guidance=3.0),
    marks=(
        Mark("conv_in.weight", (None, 4, 3, 3)),
        Mark("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight", (None, 96)),
        Mark("down_blocks.2.resnets.0.conv1.weight"),
        Mark("down_blocks.3.resnets.0.conv1.weight", absent=True),
    ),
)
