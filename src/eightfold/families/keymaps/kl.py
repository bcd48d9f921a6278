"""The KL autoencoder of latent diffusion, and FLUX.2's, whose 1x1 convolutions lie inside encoder and decoder.

Sources: CompVis/latent-diffusion ldm/modules/diffusionmodules/model.py; black-forest-labs/flux2 autoencoder.py.
The decoder of the original counts its levels from the highest resolution, ours from the lowest; all public ones have four.
"""

from ...specs.keymap import Keymap, Row

RESIDUAL = (Row("norm{n}.", "norm{n}."), Row("conv{n}.", "conv{n}."), Row("nin_shortcut.", "conv_shortcut."))

ENDS = (
    Row("mid.block_{r+1}.", "mid_block.resnets.{r}.", RESIDUAL),
    Row("mid.attn_1.norm.", "mid_block.attentions.0.group_norm."),
    Row("mid.attn_1.q.", "mid_block.attentions.0.to_q.", change="squeeze"),
    Row("mid.attn_1.k.", "mid_block.attentions.0.to_k.", change="squeeze"),
    Row("mid.attn_1.v.", "mid_block.attentions.0.to_v.", change="squeeze"),
    Row("mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0.", change="squeeze"),
    Row("norm_out.", "conv_norm_out."),
)

ENCODER = (
    Row("down.{l}.block.{r}.", "down_blocks.{l}.resnets.{r}.", RESIDUAL),
    Row("down.{l}.downsample.", "down_blocks.{l}.downsamplers.0."),
    *ENDS,
)

DECODER = (
    Row("up.{3-l}.block.{r}.", "up_blocks.{l}.resnets.{r}.", RESIDUAL),
    Row("up.{3-l}.upsample.", "up_blocks.{l}.upsamplers.0."),
    *ENDS,
)

SIDES = (Row("encoder.", "encoder.", ENCODER), Row("decoder.", "decoder.", DECODER))

KL = Keymap(name="kl", rows=SIDES)

FLUX2_KL = Keymap(
    name="flux2-kl",
    rows=(*SIDES, Row("encoder.quant_conv.", "quant_conv."), Row("decoder.post_quant_conv.", "post_quant_conv.")),
)
