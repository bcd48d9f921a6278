"""The text towers of CLIP: transformers' model as Stable Diffusion 1 holds it, and OpenCLIP's.

Source of the second: mlfoundations/open_clip src/open_clip/transformer.py. Ours is the layout of the folder `text_encoder` of diffusers.
OpenCLIP multiplies by its projection from the right, so that this map is turned over.
"""

from ...specs.keymap import Dropped, Keymap, Row

MASK = "made anew wherever it is needed"
SCORE = "compares texts with pictures"

LEFTOVERS = (
    Dropped("text_model.embeddings.position_ids", MASK, needed=False),
    Dropped("logit_scale", SCORE, needed=False),
)

BLOCK = (
    Row("attn.in_proj_weight", ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight")),
    Row("attn.in_proj_bias", ("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias")),
    Row("attn.out_proj.", "self_attn.out_proj."),
    Row("ln_{n}.", "layer_norm{n}."),
    Row("mlp.c_fc.", "mlp.fc1."),
    Row("mlp.c_proj.", "mlp.fc2."),
)

# The wrapper of the two towers in Stable Diffusion 2 and XL
EMBEDDER = Keymap(
    name="openclip in its embedder",
    rows=(
        Row("model.positional_embedding", "positional_embedding"),
        Row("model.token_embedding.", "token_embedding."),
        Row("model.transformer.", "transformer."),
        Row("model.ln_final.", "ln_final."),
        Row("model.text_projection", "text_projection"),
        Row("model.logit_scale", "logit_scale"),
        Row("model.attn_mask", "attn_mask"),
    ),
)

OPENCLIP = Keymap(
    name="openclip",
    rows=(
        Row("positional_embedding", "text_model.embeddings.position_embedding.weight"),
        Row("token_embedding.", "text_model.embeddings.token_embedding."),
        Row("transformer.resblocks.{l}.", "text_model.encoder.layers.{l}.", BLOCK),
        Row("ln_final.", "text_model.final_layer_norm."),
        Row("text_projection", "text_projection.weight", change="turn"),
    ),
    dropped=(
        *LEFTOVERS,
        Dropped("attn_mask", MASK, needed=False),
        Dropped("visual.", SCORE, needed=False),
    ),
    spellings=(EMBEDDER,),
)

# Files that leave out `text_model`, and those of a newer transformers that leave out all that stands before
SHORT = (
    Keymap(
        name="clip without text_model",
        rows=(
            Row("transformer.embeddings.", "transformer.text_model.embeddings."),
            Row("transformer.encoder.", "transformer.text_model.encoder."),
            Row("transformer.final_layer_norm.", "transformer.text_model.final_layer_norm."),
        ),
    ),
    Keymap(
        name="clip without a prefix",
        rows=(
            Row("embeddings.", "transformer.text_model.embeddings."),
            Row("encoder.", "transformer.text_model.encoder."),
            Row("final_layer_norm.", "transformer.text_model.final_layer_norm."),
        ),
    ),
)

CLIP = Keymap(
    name="clip",
    rows=(Row("transformer.text_model.", "text_model."), Row("transformer.text_projection.", "text_projection.")),
    dropped=(
        *LEFTOVERS,
        Dropped("transformer.text_model.embeddings.position_ids", MASK, needed=False),
        Dropped("transformer.logit_scale", SCORE, needed=False),
        Dropped("vision_model.", SCORE, needed=False),
        Dropped("visual_projection.", SCORE, needed=False),
    ),
    spellings=SHORT,
)
