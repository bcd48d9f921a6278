"""The U-Net of Stable Diffusion 1, 2 and XL (CompVis/latent-diffusion ldm/modules/diffusionmodules/openaimodel.py).

The original numbers its blocks through all levels, three a level on the way down (two and the halving) and three on the way up.
Doubling is the last part of a level's third block: the second part where the level has no attention, else the third.
"""

from ...specs.keymap import Keymap, Row

RESIDUAL = (
    Row("in_layers.0.", "norm1."),
    Row("in_layers.2.", "conv1."),
    Row("emb_layers.1.", "time_emb_proj."),
    Row("out_layers.0.", "norm2."),
    Row("out_layers.3.", "conv2."),
    Row("skip_connection.", "conv_shortcut."),
)

ATTENTION = (
    Row("norm.", "norm."),
    Row("proj_in.", "proj_in."),
    Row("transformer_blocks.", "transformer_blocks."),
    Row("proj_out.", "proj_out."),
)

WAY_DOWN = (
    Row("time_embed.{2n}.", "time_embedding.linear_{n+1}."),
    Row("label_emb.0.{2n}.", "add_embedding.linear_{n+1}."),
    Row("input_blocks.0.0.", "conv_in."),
    Row("input_blocks.{3l+r+1}.0.", "down_blocks.{l}.resnets.{r<2}.", RESIDUAL),
    Row("input_blocks.{3l+r+1}.1.", "down_blocks.{l}.attentions.{r<2}.", ATTENTION),
    Row("input_blocks.{3l+3}.0.op.", "down_blocks.{l}.downsamplers.0.conv."),
    Row("middle_block.{2r}.", "mid_block.resnets.{r}.", RESIDUAL),
    Row("middle_block.1.", "mid_block.attentions.0.", ATTENTION),
)

UNET = (
    *WAY_DOWN,
    Row("output_blocks.{3l+r}.0.", "up_blocks.{l}.resnets.{r<3}.", RESIDUAL),
    Row("output_blocks.{3l+r}.1.", "up_blocks.{l}.attentions.{r<3}.", ATTENTION),
    Row("out.0.", "conv_norm_out."),
    Row("out.2.", "conv_out."),
)

# Stable Diffusion 1 and 2 and the refiner of XL: no attention at the lowest resolution
SD_UNET = Keymap(
    name="sd-unet",
    rows=(
        *UNET,
        Row("output_blocks.2.1.conv.", "up_blocks.0.upsamplers.0.conv."),
        Row("output_blocks.{3l+5}.2.conv.", "up_blocks.{l+1}.upsamplers.0.conv."),
    ),
)

# The base of XL: attention at the lowest, none at the highest, which does not double
SDXL_UNET = Keymap(name="sdxl-unet", rows=(*UNET, Row("output_blocks.{3l+2}.2.conv.", "up_blocks.{l}.upsamplers.0.conv.")))
