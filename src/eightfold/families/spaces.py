"""The latent spaces."""

from ..specs.mark import Mark
from ..specs.network import KLConfig
from ..specs.space import Normalisation, Space

POCKET = Space(
    name="pocket",
    autoencoder=KLConfig(channels=4, width=16, multipliers=(1, 2, 6, 6), blocks=1, groups=2),
    normalisation=Normalisation(scale=(1.0,)),
    marks=(Mark("decoder.conv_in.weight", (96, 4, 3, 3)), Mark("decoder.conv_out.weight", (3, 16, 3, 3))),
)

SD = Space(
    name="sd",
    autoencoder=KLConfig(channels=4),
    normalisation=Normalisation(scale=(0.18215,)),
    reading="sample",
    marks=(
        Mark("decoder.conv_in.weight", (512, 4, 3, 3)),
        Mark("decoder.conv_out.weight", (3, 128, 3, 3)),
        Mark("post_quant_conv.weight", (4, 4, 1, 1)),
    ),
)

SPACES = (POCKET, SD)
