"""FLUX.2 dev and klein (black-forest-labs/flux2 src/flux2/model.py): no biases, one modulation for all blocks, single blocks stay fused."""

from ...specs.keymap import Keymap, Row
from .flux1 import ATTENTION, COMFY_FLUX, EMBEDDER, SINGLE_NORMS

DOUBLE = (
    *ATTENTION,
    Row("img_mlp.0.", "ff.linear_in."),
    Row("img_mlp.2.", "ff.linear_out."),
    Row("txt_mlp.0.", "ff_context.linear_in."),
    Row("txt_mlp.2.", "ff_context.linear_out."),
)

SINGLE = (*SINGLE_NORMS, Row("linear1.", "attn.to_qkv_mlp_proj."), Row("linear2.", "attn.to_out."))

FLUX2 = Keymap(
    name="flux2",
    rows=(
        Row("img_in.", "x_embedder."),
        Row("txt_in.", "context_embedder."),
        Row("time_in.", "time_guidance_embed.timestep_embedder.", EMBEDDER),
        Row("guidance_in.", "time_guidance_embed.guidance_embedder.", EMBEDDER),
        Row("double_stream_modulation_img.lin.", "double_stream_modulation_img.linear."),
        Row("double_stream_modulation_txt.lin.", "double_stream_modulation_txt.linear."),
        Row("single_stream_modulation.lin.", "single_stream_modulation.linear."),
        Row("double_blocks.{b}.", "transformer_blocks.{b}.", DOUBLE),
        Row("single_blocks.{b}.", "single_transformer_blocks.{b}.", SINGLE),
        Row("final_layer.linear.", "proj_out."),
        Row("final_layer.adaLN_modulation.1.", "norm_out.linear.", change="swap"),
    ),
    spellings=(COMFY_FLUX,),
)
