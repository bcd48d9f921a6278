"""Stable Diffusion 3 and 3.5 (Stability-AI/sd3.5 mmditx.py).

The text side of the last block is only modulated: its (shift, scale) is (scale, shift) in ours, as in the final layer. Which block is the
last differs: 23 in the medium models, 37 in the large one.
"""

from ...specs.keymap import Keymap, Row

EMBEDDER = (Row("mlp.{2n}.", "linear_{n+1}."),)

BLOCK = (
    Row("x_block.attn.qkv.", ("attn.to_q.", "attn.to_k.", "attn.to_v.")),
    Row("x_block.attn.ln_q.", "attn.norm_q."),
    Row("x_block.attn.ln_k.", "attn.norm_k."),
    Row("x_block.attn.proj.", "attn.to_out.0."),
    Row("x_block.attn2.qkv.", ("attn2.to_q.", "attn2.to_k.", "attn2.to_v.")),
    Row("x_block.attn2.ln_q.", "attn2.norm_q."),
    Row("x_block.attn2.ln_k.", "attn2.norm_k."),
    Row("x_block.attn2.proj.", "attn2.to_out.0."),
    Row("x_block.adaLN_modulation.1.", "norm1.linear."),
    Row("x_block.mlp.fc1.", "ff.net.0.proj."),
    Row("x_block.mlp.fc2.", "ff.net.2."),
    Row("context_block.attn.qkv.", ("attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj.")),
    Row("context_block.attn.ln_q.", "attn.norm_added_q."),
    Row("context_block.attn.ln_k.", "attn.norm_added_k."),
    Row("context_block.attn.proj.", "attn.to_add_out."),
    Row("context_block.mlp.fc1.", "ff_context.net.0.proj."),
    Row("context_block.mlp.fc2.", "ff_context.net.2."),
)

MMDIT = (
    Row("pos_embed", "pos_embed.pos_embed"),
    Row("x_embedder.proj.", "pos_embed.proj."),
    Row("t_embedder.", "time_text_embed.timestep_embedder.", EMBEDDER),
    Row("y_embedder.", "time_text_embed.text_embedder.", EMBEDDER),
    Row("joint_blocks.{b}.", "transformer_blocks.{b}.", BLOCK),
    Row("final_layer.linear.", "proj_out."),
    Row("final_layer.adaLN_modulation.1.", "norm_out.linear.", change="swap"),
)

SD3_MEDIUM = Keymap(
    name="sd3-medium",
    rows=(
        *MMDIT,
        Row("joint_blocks.{b<23}.context_block.adaLN_modulation.1.", "transformer_blocks.{b}.norm1_context.linear."),
        Row("joint_blocks.23.context_block.adaLN_modulation.1.", "transformer_blocks.23.norm1_context.linear.", change="swap"),
    ),
)

SD3_LARGE = Keymap(
    name="sd3-large",
    rows=(
        *MMDIT,
        Row("joint_blocks.{b<37}.context_block.adaLN_modulation.1.", "transformer_blocks.{b}.norm1_context.linear."),
        Row("joint_blocks.37.context_block.adaLN_modulation.1.", "transformer_blocks.37.norm1_context.linear.", change="swap"),
    ),
)
