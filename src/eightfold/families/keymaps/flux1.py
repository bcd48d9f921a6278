"""FLUX.1 and Chroma (black-forest-labs/flux src/flux/model.py; lodestone-rock/flow src/models/chroma/model.py).

A single block's first map makes query, key, value and the four times wider hidden layer at once.
The final modulation is (shift, scale) in the original, (scale, shift) in ours; Chroma makes it elsewhere.
"""

from ...specs.keymap import Keymap, Row

EMBEDDER = (Row("in_layer.", "linear_1."), Row("out_layer.", "linear_2."))

ATTENTION = (
    Row("img_attn.qkv.", ("attn.to_q.", "attn.to_k.", "attn.to_v.")),
    Row("img_attn.norm.query_norm.scale", "attn.norm_q.weight"),
    Row("img_attn.norm.key_norm.scale", "attn.norm_k.weight"),
    Row("img_attn.proj.", "attn.to_out.0."),
    Row("txt_attn.qkv.", ("attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj.")),
    Row("txt_attn.norm.query_norm.scale", "attn.norm_added_q.weight"),
    Row("txt_attn.norm.key_norm.scale", "attn.norm_added_k.weight"),
    Row("txt_attn.proj.", "attn.to_add_out."),
)

SINGLE_NORMS = (Row("norm.query_norm.scale", "attn.norm_q.weight"), Row("norm.key_norm.scale", "attn.norm_k.weight"))

DOUBLE = (
    *ATTENTION,
    Row("img_mod.lin.", "norm1.linear."),
    Row("txt_mod.lin.", "norm1_context.linear."),
    Row("img_mlp.0.", "ff.net.0.proj."),
    Row("img_mlp.2.", "ff.net.2."),
    Row("txt_mlp.0.", "ff_context.net.0.proj."),
    Row("txt_mlp.2.", "ff_context.net.2."),
)

SINGLE = (
    *SINGLE_NORMS,
    Row("linear1.", ("attn.to_q.", "attn.to_k.", "attn.to_v.", "proj_mlp."), shares=(1, 1, 1, 4)),
    Row("linear2.", "proj_out."),
    Row("modulation.lin.", "norm.linear."),
)

BODY = (
    Row("img_in.", "x_embedder."),
    Row("txt_in.", "context_embedder."),
    Row("double_blocks.{b}.", "transformer_blocks.{b}.", DOUBLE),
    Row("single_blocks.{b}.", "single_transformer_blocks.{b}.", SINGLE),
    Row("final_layer.linear.", "proj_out."),
)

APPROXIMATOR = (
    Row("layers.{n}.in_layer.", "layers.{n}.linear_1."),
    Row("layers.{n}.out_layer.", "layers.{n}.linear_2."),
    Row("norms.{n}.scale", "norms.{n}.weight"),
)

# What ComfyUI writes, and what the original has
COMFY_NORMS = (
    Row("double_blocks.{b}.img_attn.norm.query_norm.weight", "double_blocks.{b}.img_attn.norm.query_norm.scale"),
    Row("double_blocks.{b}.img_attn.norm.key_norm.weight", "double_blocks.{b}.img_attn.norm.key_norm.scale"),
    Row("double_blocks.{b}.txt_attn.norm.query_norm.weight", "double_blocks.{b}.txt_attn.norm.query_norm.scale"),
    Row("double_blocks.{b}.txt_attn.norm.key_norm.weight", "double_blocks.{b}.txt_attn.norm.key_norm.scale"),
    Row("single_blocks.{b}.norm.query_norm.weight", "single_blocks.{b}.norm.query_norm.scale"),
    Row("single_blocks.{b}.norm.key_norm.weight", "single_blocks.{b}.norm.key_norm.scale"),
)

COMFY_GUIDANCE = Row("distilled_guidance_layer.norms.{n}.weight", "distilled_guidance_layer.norms.{n}.scale")

COMFY_FLUX = Keymap(name="flux of ComfyUI", rows=COMFY_NORMS)

COMFY_CHROMA = Keymap(name="chroma of ComfyUI", rows=(*COMFY_NORMS, COMFY_GUIDANCE))

FLUX1 = Keymap(
    name="flux1",
    rows=(
        *BODY,
        Row("time_in.", "time_text_embed.timestep_embedder.", EMBEDDER),
        Row("vector_in.", "time_text_embed.text_embedder.", EMBEDDER),
        Row("guidance_in.", "time_text_embed.guidance_embedder.", EMBEDDER),
        Row("final_layer.adaLN_modulation.1.", "norm_out.linear.", change="swap"),
    ),
    spellings=(COMFY_FLUX,),
)

CHROMA = Keymap(
    name="chroma",
    rows=(*BODY, Row("distilled_guidance_layer.", "distilled_guidance_layer.", APPROXIMATOR)),
    spellings=(COMFY_CHROMA,),
)

# Chroma Radiance has one layout, and ComfyUI's spelling of it
RADIANCE = Keymap(
    name="radiance",
    rows=(),
    spellings=(
        Keymap(
            name="radiance of ComfyUI",
            rows=(
                *COMFY_NORMS,
                COMFY_GUIDANCE,
                Row("nerf_blocks.{n}.norm.weight", "nerf_blocks.{n}.norm.scale"),
                Row("nerf_final_layer_conv.norm.weight", "nerf_final_layer_conv.norm.scale"),
            ),
        ),
    ),
)
