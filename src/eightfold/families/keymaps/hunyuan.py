"""Hunyuan Image 2.1, base, distilled and refiner (Tencent-Hunyuan/HunyuanImage-2.1 hyimage/models/hunyuan/modules/models.py).

The published files hold query, key and value of the blocks apart; other files of the same layout hold them in one.
"""

from ...specs.keymap import Dropped, Keymap, Row

EMBEDDER = (Row("mlp.{2n}.", "linear_{n+1}."),)

TEXT_BLOCK = (
    Row("norm{n}.", "norm{n}."),
    Row("self_attn_qkv.", ("attn.to_q.", "attn.to_k.", "attn.to_v.")),
    Row("self_attn_proj.", "attn.to_out.0."),
    Row("mlp.fc1.", "ff.net.0.proj."),
    Row("mlp.fc2.", "ff.net.2."),
    Row("adaLN_modulation.1.", "norm_out.linear."),
)

TEXT = (
    Row("input_embedder.", "proj_in."),
    Row("t_embedder.", "time_text_embed.timestep_embedder.", EMBEDDER),
    Row("c_embedder.", "time_text_embed.text_embedder."),
    Row("individual_token_refiner.blocks.{b}.", "token_refiner.refiner_blocks.{b}.", TEXT_BLOCK),
)

DOUBLE = (
    Row("img_mod.linear.", "norm1.linear."),
    Row("img_attn_q.", "attn.to_q."),
    Row("img_attn_k.", "attn.to_k."),
    Row("img_attn_v.", "attn.to_v."),
    Row("img_attn_q_norm.", "attn.norm_q."),
    Row("img_attn_k_norm.", "attn.norm_k."),
    Row("img_attn_proj.", "attn.to_out.0."),
    Row("img_mlp.fc1.", "ff.net.0.proj."),
    Row("img_mlp.fc2.", "ff.net.2."),
    Row("txt_mod.linear.", "norm1_context.linear."),
    Row("txt_attn_q.", "attn.add_q_proj."),
    Row("txt_attn_k.", "attn.add_k_proj."),
    Row("txt_attn_v.", "attn.add_v_proj."),
    Row("txt_attn_q_norm.", "attn.norm_added_q."),
    Row("txt_attn_k_norm.", "attn.norm_added_k."),
    Row("txt_attn_proj.", "attn.to_add_out."),
    Row("txt_mlp.fc1.", "ff_context.net.0.proj."),
    Row("txt_mlp.fc2.", "ff_context.net.2."),
)

SINGLE = (
    Row("modulation.linear.", "norm.linear."),
    Row("linear1_q.", "attn.to_q."),
    Row("linear1_k.", "attn.to_k."),
    Row("linear1_v.", "attn.to_v."),
    Row("linear1_mlp.", "proj_mlp."),
    Row("linear2.fc.", "proj_out."),
    Row("q_norm.", "attn.norm_q."),
    Row("k_norm.", "attn.norm_k."),
)

BODY = (
    Row("img_in.proj.", "x_embedder.proj."),
    Row("txt_in.", "context_embedder.", TEXT),
    Row("time_in.", "time_guidance_embed.timestep_embedder.", EMBEDDER),
    Row("guidance_in.", "time_guidance_embed.guidance_embedder.", EMBEDDER),
    Row("double_blocks.{b}.", "transformer_blocks.{b}.", DOUBLE),
    Row("single_blocks.{b}.", "single_transformer_blocks.{b}.", SINGLE),
    Row("final_layer.linear.", "proj_out."),
    Row("final_layer.adaLN_modulation.1.", "norm_out.linear.", change="swap"),
)

HUNYUAN_FUSED = Keymap(
    name="hunyuan with fused maps",
    rows=(
        Row(
            "double_blocks.{b}.img_attn_qkv.",
            ("double_blocks.{b}.img_attn_q.", "double_blocks.{b}.img_attn_k.", "double_blocks.{b}.img_attn_v."),
        ),
        Row(
            "double_blocks.{b}.txt_attn_qkv.",
            ("double_blocks.{b}.txt_attn_q.", "double_blocks.{b}.txt_attn_k.", "double_blocks.{b}.txt_attn_v."),
        ),
        Row(
            "single_blocks.{b}.linear1.",
            (
                "single_blocks.{b}.linear1_q.",
                "single_blocks.{b}.linear1_k.",
                "single_blocks.{b}.linear1_v.",
                "single_blocks.{b}.linear1_mlp.",
            ),
            shares=(1, 1, 1, 4),
        ),
        Row("single_blocks.{b}.linear2.weight", "single_blocks.{b}.linear2.fc.weight"),
        Row("single_blocks.{b}.linear2.bias", "single_blocks.{b}.linear2.fc.bias"),
    ),
)

HUNYUAN = Keymap(
    name="hunyuan",
    rows=(
        *BODY,
        Row("time_r_in.", "time_guidance_embed.timestep_embedder_r.", EMBEDDER),
        Row("byt5_in.layernorm.", "context_embedder_2.norm."),
        Row("byt5_in.fc{n}.", "context_embedder_2.linear_{n}."),
    ),
    spellings=(HUNYUAN_FUSED,),
)

HUNYUAN_REFINER = Keymap(
    name="hunyuan-refiner",
    rows=BODY,
    dropped=(Dropped("time_r_in.", "the refiner is never given a second time"),),
    spellings=(HUNYUAN_FUSED,),
)
