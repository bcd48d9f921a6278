"""Lumina-Image 2.0 (Alpha-VLLM/Lumina-Image-2.0 models/model.py): 24 query heads share 8 keys and values."""

from ...specs.keymap import Dropped, Keymap, Row

BLOCK = (
    Row("attention.qkv.", ("attn.to_q.", "attn.to_k.", "attn.to_v."), shares=(3, 1, 1)),
    Row("attention.out.", "attn.to_out.0."),
    Row("attention.q_norm.", "attn.norm_q."),
    Row("attention.k_norm.", "attn.norm_k."),
    Row("attention_norm2.", "norm2."),
    Row("feed_forward.w{n}.", "feed_forward.linear_{n}."),
    Row("ffn_norm{n}.", "ffn_norm{n}."),
)

MODULATED = (*BLOCK, Row("attention_norm1.", "norm1.norm."), Row("adaLN_modulation.1.", "norm1.linear."))

PLAIN = (*BLOCK, Row("attention_norm1.", "norm1."))

LUMINA2 = Keymap(
    name="lumina2",
    rows=(
        Row("t_embedder.mlp.{2n}.", "time_caption_embed.timestep_embedder.linear_{n+1}."),
        Row("cap_embedder.", "time_caption_embed.caption_embedder."),
        Row("noise_refiner.{b}.", "noise_refiner.{b}.", MODULATED),
        Row("context_refiner.{b}.", "context_refiner.{b}.", PLAIN),
        Row("layers.{b}.", "layers.{b}.", MODULATED),
        Row("final_layer.adaLN_modulation.1.", "norm_out.linear_1."),
        Row("final_layer.linear.", "norm_out.linear_2."),
    ),
    dropped=(Dropped("norm_final.weight", "the network never uses this norm", value=1.0, like="cap_embedder.0.weight"),),
)
