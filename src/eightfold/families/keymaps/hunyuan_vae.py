"""The two autoencoders of Hunyuan Image 2.1; their decoders count from the lowest resolution in every layout.

Source: Tencent-Hunyuan/HunyuanImage-2.1 vae/hunyuanimage_vae.py and vae/refiner_vae.py.
Our layout of the first one counts its blocks through all levels.
"""

from ...specs.keymap import Keymap, Row

MIDDLE = (
    Row("mid.block_{r+1}.", "mid_block.resnets.{r}."),
    Row("mid.attn_1.norm.", "mid_block.attentions.0.norm."),
    Row("mid.attn_1.q.", "mid_block.attentions.0.to_q."),
    Row("mid.attn_1.k.", "mid_block.attentions.0.to_k."),
    Row("mid.attn_1.v.", "mid_block.attentions.0.to_v."),
)

FLAT = (*MIDDLE, Row("mid.attn_1.proj_out.", "mid_block.attentions.0.proj."))

ENCODER = (
    Row("down.{l}.block.{r<2}.", "down_blocks.{3l+r}."),
    Row("down.{l}.downsample.", "down_blocks.{3l+2}."),
    *FLAT,
)

DECODER = (
    Row("up.{l}.block.{r<3}.", "up_blocks.{4l+r}."),
    Row("up.{l}.upsample.", "up_blocks.{4l+3}."),
    *FLAT,
)

NESTED = (*MIDDLE, Row("mid.attn_1.proj_out.", "mid_block.attentions.0.proj_out."))

REFINER_ENCODER = (
    Row("down.{l}.block.{r}.", "down_blocks.{l}.resnets.{r}."),
    Row("down.{l}.downsample.", "down_blocks.{l}.downsamplers.0."),
    *NESTED,
)

REFINER_DECODER = (
    Row("up.{l}.block.{r}.", "up_blocks.{l}.resnets.{r}."),
    Row("up.{l}.upsample.", "up_blocks.{l}.upsamplers.0."),
    *NESTED,
)

HUNYUAN_VAE = Keymap(name="hunyuan-vae", rows=(Row("encoder.", "encoder.", ENCODER), Row("decoder.", "decoder.", DECODER)))

HUNYUAN_REFINER_VAE = Keymap(
    name="hunyuan-refiner-vae",
    rows=(Row("encoder.", "encoder.", REFINER_ENCODER), Row("decoder.", "decoder.", REFINER_DECODER)),
)
