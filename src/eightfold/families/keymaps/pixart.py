"""PixArt-alpha and PixArt-sigma (PixArt-alpha/PixArt-sigma diffusion/model/nets/PixArt.py and PixArtMS.py)."""

from ...specs.keymap import Dropped, Keymap, Row

EMBEDDER = (Row("mlp.{2n}.", "linear_{n+1}."),)

BLOCK = (
    Row("scale_shift_table", "scale_shift_table"),
    Row("attn.qkv.", ("attn1.to_q.", "attn1.to_k.", "attn1.to_v.")),
    Row("attn.proj.", "attn1.to_out.0."),
    Row("cross_attn.q_linear.", "attn2.to_q."),
    Row("cross_attn.kv_linear.", ("attn2.to_k.", "attn2.to_v.")),
    Row("cross_attn.proj.", "attn2.to_out.0."),
    Row("mlp.fc1.", "ff.net.0.proj."),
    Row("mlp.fc2.", "ff.net.2."),
)

PIXART = Keymap(
    name="pixart",
    rows=(
        Row("x_embedder.proj.", "pos_embed.proj."),
        Row("t_embedder.", "adaln_single.emb.timestep_embedder.", EMBEDDER),
        Row("csize_embedder.", "adaln_single.emb.resolution_embedder.", EMBEDDER),
        Row("ar_embedder.", "adaln_single.emb.aspect_ratio_embedder.", EMBEDDER),
        Row("t_block.1.", "adaln_single.linear."),
        Row("y_embedder.y_proj.fc{n}.", "caption_projection.linear_{n}."),
        Row("blocks.{b}.", "transformer_blocks.{b}.", BLOCK),
        Row("final_layer.scale_shift_table", "scale_shift_table"),
        Row("final_layer.linear.", "proj_out."),
    ),
    dropped=(
        Dropped("pos_embed", "the table of positions is worked out for each size"),
        Dropped("y_embedder.y_embedding", "it stands for a dropped caption in training; generation encodes an empty text instead"),
    ),
)
