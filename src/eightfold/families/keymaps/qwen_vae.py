"""The autoencoder of Qwen-Image in the layout of Wan 2.1, where blocks are numbered lists (Wan-Video/Wan2.1 wan/modules/vae.py)."""

from ...specs.keymap import Keymap, Row

RESIDUAL = (
    Row("residual.0.", "norm1."),
    Row("residual.2.", "conv1."),
    Row("residual.3.", "norm2."),
    Row("residual.6.", "conv2."),
    Row("shortcut.", "conv_shortcut."),
)

RESAMPLE = (Row("resample.", "resample."), Row("time_conv.", "time_conv."))

ENDS = (
    Row("conv1.", "conv_in."),
    Row("middle.{2r}.", "mid_block.resnets.{r}.", RESIDUAL),
    Row("middle.1.", "mid_block.attentions.0."),
    Row("head.0.", "norm_out."),
    Row("head.2.", "conv_out."),
)

ENCODER = (Row("downsamples.{n}.", "down_blocks.{n}.", (*RESIDUAL, *RESAMPLE)), *ENDS)

DECODER = (
    Row("upsamples.{4l+r}.", "up_blocks.{l}.resnets.{r<3}.", RESIDUAL),
    Row("upsamples.{4l+3}.", "up_blocks.{l}.upsamplers.0.", RESAMPLE),
    *ENDS,
)

QWEN_VAE = Keymap(
    name="qwen-vae",
    rows=(
        Row("encoder.", "encoder.", ENCODER),
        Row("decoder.", "decoder.", DECODER),
        Row("conv1.", "quant_conv."),
        Row("conv2.", "post_quant_conv."),
    ),
)
