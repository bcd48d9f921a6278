"""The latent spaces, each with the public code its facts were taken from.

Readings and number formats: where a family's own tools and diffusers differ, the family's own are followed.
"""

from ..specs.mark import Mark
from ..specs.network import Flux2Config, HunyuanConfig, IdentityConfig, KLConfig, QwenConfig, RefinerConfig, TinyConfig
from ..specs.space import Normalisation, Packing, Space, Statistics, Variant
from .keymaps.hunyuan_vae import HUNYUAN_REFINER_VAE, HUNYUAN_VAE
from .keymaps.kl import FLUX2_KL, KL
from .keymaps.qwen_vae import QWEN_VAE
from .keymaps.tiny import TINY, TINY_DECODER, TINY_ENCODER

WIDE_RANGE = ("float32", "bfloat16")  # float16 ends at 65504

# madebyollin/taesd, taesd.py: one for each normalised latent of 4 or 16 channels; published whole, and each half in a file of its own
ENCODES_4, DECODES_4 = Mark("encoder.layers.14.weight", (4, None, 3, 3)), Mark("decoder.layers.0.weight", (None, 4, 3, 3))
ENCODES_16, DECODES_16 = Mark("encoder.layers.14.weight", (16, None, 3, 3)), Mark("decoder.layers.0.weight", (None, 16, 3, 3))
NO_ENCODER, NO_DECODER = Mark("encoder.layers.0.weight", absent=True), Mark("decoder.layers.0.weight", absent=True)
SEES, SHOWS = Mark("encoder.layers.0.weight", (None, 3, 3, 3)), Mark("decoder.layers.18.weight", (3, None, 3, 3))
TINY_4 = (
    Variant(name="tiny", autoencoder=TinyConfig(channels=4), marks=(DECODES_4, ENCODES_4), speaks="latent", keymap=TINY),
    Variant(
        name="tiny-encoder",
        autoencoder=TinyConfig(channels=4, halves=("encoder",)),
        marks=(SEES, ENCODES_4, NO_DECODER),
        speaks="latent",
        keymap=TINY_ENCODER,
    ),
    Variant(
        name="tiny-decoder",
        autoencoder=TinyConfig(channels=4, halves=("decoder",)),
        marks=(SHOWS, DECODES_4, NO_ENCODER),
        speaks="latent",
        keymap=TINY_DECODER,
    ),
)
TINY_16 = (
    Variant(name="tiny", autoencoder=TinyConfig(channels=16), marks=(DECODES_16, ENCODES_16), speaks="latent", keymap=TINY),
    Variant(
        name="tiny-encoder",
        autoencoder=TinyConfig(channels=16, halves=("encoder",)),
        marks=(SEES, ENCODES_16, NO_DECODER),
        speaks="latent",
        keymap=TINY_ENCODER,
    ),
    Variant(
        name="tiny-decoder",
        autoencoder=TinyConfig(channels=16, halves=("decoder",)),
        marks=(SHOWS, DECODES_16, NO_ENCODER),
        speaks="latent",
        keymap=TINY_DECODER,
    ),
)

# The autoencoders of sd and sdxl have the same tensors, and so have those of sd3 and flux1: their marks are equal on purpose
FOUR_LEVELS = Mark("encoder.down_blocks.3.resnets.0.conv1.weight")
SECOND_BLOCK = "encoder.down_blocks.0.resnets.1.conv1.weight"
KL_4 = (
    Mark("decoder.conv_in.weight", (None, 4, 3, 3)),
    Mark("post_quant_conv.weight", (4, 4, 1, 1)),
    FOUR_LEVELS,
    Mark(SECOND_BLOCK),
)
KL_16 = (
    Mark("decoder.conv_in.weight", (None, 16, 3, 3)),
    Mark("post_quant_conv.weight", absent=True),
    FOUR_LEVELS,
    Mark(SECOND_BLOCK),
)

FLUX2_MARKS = (Mark("decoder.conv_in.weight", (None, 32, 3, 3)), Mark("bn.running_mean", (128,)), FOUR_LEVELS)

# Trained here
POCKET = Space(
    name="pocket",
    autoencoder=KLConfig(channels=4, width=16, multipliers=(1, 2, 6, 6), blocks=1, groups=2),
    normalisation=Normalisation(scale=(1.0,)),
    marks=(
        Mark("decoder.conv_in.weight", (None, 4, 3, 3)),
        Mark("post_quant_conv.weight", (4, 4, 1, 1)),
        FOUR_LEVELS,
        Mark(SECOND_BLOCK, absent=True),
    ),
)

# CompVis/stable-diffusion, v1-inference.yaml; its get_first_stage_encoding samples. SD 2, PixArt-alpha
SD = Space(
    name="sd",
    autoencoder=KLConfig(channels=4),
    normalisation=Normalisation(scale=(0.18215,)),
    start_reading="sample",
    marks=KL_4,
    keymap=KL,
    variants=TINY_4,
)

# Stability-AI/generative-models, sd_xl_base.yaml: autocast is switched off for the first stage, because float16 overflows. PixArt-sigma
SDXL = Space(
    name="sdxl",
    autoencoder=KLConfig(channels=4),
    normalisation=Normalisation(scale=(0.13025,)),
    start_reading="sample",
    dtypes=WIDE_RANGE,
    marks=KL_4,
    keymap=KL,
    variants=TINY_4,
)

# Stability-AI/sd3.5, sd3_impls.py: sampled, and run in float16
SD3 = Space(
    name="sd3",
    autoencoder=KLConfig(channels=16, quant_convs=False),
    normalisation=Normalisation(scale=(1.5305,), shift=(0.0609,)),
    start_reading="sample",
    marks=KL_16,
    keymap=KL,
    variants=TINY_16,
)

# black-forest-labs/flux, util.py and modules/autoencoder.py: bfloat16, the mean is taken. Lumina 2, Chroma
FLUX1 = Space(
    name="flux1",
    autoencoder=KLConfig(channels=16, quant_convs=False),
    normalisation=Normalisation(scale=(0.3611,), shift=(0.1159,)),
    dtypes=WIDE_RANGE,
    marks=KL_16,
    keymap=KL,
    variants=TINY_16,
)

# diffusers, autoencoder_kl_qwenimage.py and its pipeline for edits, which takes the mode
QWEN = Space(
    name="qwen",
    autoencoder=QwenConfig(channels=16),
    normalisation=Normalisation.from_moments(
        mean=(
            *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
            *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
        ),
        std=(
            *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
            *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
        ),
    ),
    dtypes=WIDE_RANGE,
    marks=(
        Mark("decoder.conv_in.weight", (None, 16, 3, 3, 3)),
        Mark("decoder.conv_out.weight", (3, None, 3, 3, 3)),
        Mark("decoder.norm_out.gamma", (None, 1, 1, 1)),
    ),
    keymap=QWEN_VAE,
)

# black-forest-labs/flux2, autoencoder.py: the mean is taken; the last normalisation is a batch norm over packed cells
FLUX2 = Space(
    name="flux2",
    autoencoder=Flux2Config(),
    normalisation=Statistics(mean="bn.running_mean", variance="bn.running_var", eps=1e-4),
    packing=Packing(side=2),
    dtypes=WIDE_RANGE,
    marks=(*FLUX2_MARKS, Mark("decoder.conv_out.weight", (3, 96, 3, 3), absent=True)),
    keymap=FLUX2_KL,
    variants=(
        Variant(
            name="small-decoder",
            autoencoder=Flux2Config(decoder_width=96),
            marks=(*FLUX2_MARKS, Mark("decoder.conv_out.weight", (3, 96, 3, 3))),
            dtypes=WIDE_RANGE,
            keymap=FLUX2_KL,
        ),
    ),
)

# Tencent-Hunyuan/HunyuanImage-2.1, vae/hunyuanimage_vae.py: decodes in float16 and starts from no picture. Marked by biases, because
# the weights may have an axis of one entry more
HUNYUAN = Space(
    name="hunyuan",
    autoencoder=HunyuanConfig(channels=64),
    normalisation=Normalisation(scale=(0.75289,)),
    marks=(
        Mark("decoder.conv_in.bias"),
        Mark("decoder.conv_out.bias", (3,)),
        Mark("encoder.conv_out.bias", (128,)),
        Mark("encoder.down_blocks.14.conv.bias"),
    ),
    keymap=HUNYUAN_VAE,
)

# The same, vae/refiner_vae.py: sampled; the pipeline gives the picture twice, as two frames
HUNYUAN_REFINER = Space(
    name="hunyuan-refiner",
    autoencoder=RefinerConfig(channels=32),
    normalisation=Normalisation(scale=(1.03682,)),
    packing=Packing(copies=2),
    start_reading="sample",
    marks=(
        Mark("decoder.conv_in.conv.weight", (None, 32, 3, 3, 3)),
        Mark("decoder.conv_out.conv.weight", (3, None, 3, 3, 3)),
        Mark("encoder.down_blocks.0.resnets.0.norm1.gamma"),
    ),
    keymap=HUNYUAN_REFINER_VAE,
)

# ShoufaChen/PixelFlow, lodestone-rock/flow (Chroma Radiance): the denoiser draws pixels
PIXELS = Space(name="pixels", autoencoder=IdentityConfig(), normalisation=Normalisation(scale=(1.0,)))

SPACES = (POCKET, SD, SDXL, SD3, FLUX1, QWEN, FLUX2, HUNYUAN, HUNYUAN_REFINER, PIXELS)
