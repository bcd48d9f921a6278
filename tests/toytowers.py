"""CLIP towers of toy width with random weights, in our layout and as transformers has them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from eightfold.specs.text import ClipConfig, ClipReading, ClipText
from eightfold.text.clip import ClipTower
from weights import randomise

SMALL = ClipConfig(name="small", width=16, layers=3, heads=2, activation="quick_gelu", padding=49407)
PLAIN = ClipConfig(name="plain", width=24, layers=4, heads=3, activation="gelu", padding=0)
POOLED = ClipConfig(name="pooled", width=32, layers=4, heads=2, activation="gelu", projection=20, padding=0)

# As Stable Diffusion 1, 2, XL and the refiner of XL read their towers
FIRST = ClipText(readings=(ClipReading(tower=SMALL, depth=3, norm=True),))
SECOND = ClipText(readings=(ClipReading(tower=PLAIN, depth=3, norm=True),))
BIG = ClipReading(tower=POOLED, depth=3, norm=False, pooled=True)
BOTH = ClipText(readings=(ClipReading(tower=SMALL, depth=2, norm=False), BIG), zero_negative=True)
REFINER = ClipText(readings=(BIG,))
PARTS = {  # of a layer: OpenCLIP's names, and those of transformers
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
    "attn.out_proj.": "self_attn.out_proj.",
}


def build_tower(config: ClipConfig, seed: int = 0) -> ClipTower:
    return randomise(ClipTower(config), seed=seed).requires_grad_(False)


@cache
def build_towers(text: ClipText) -> tuple[ClipTower, ...]:
    """The same ones for every caller."""
    return tuple(build_tower(reading.tower, seed) for seed, reading in enumerate(text.readings))


def build_theirs(tower: ClipTower, layers: int | None = None) -> CLIPTextModel | CLIPTextModelWithProjection:
    """The model of transformers with the same weights; with `layers`, without those behind."""
    config = tower.config
    theirs = CLIPTextConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=4 * config.width,
        projection_dim=config.projection or config.width,
        num_hidden_layers=layers or config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=config.tokens,
        hidden_act=config.activation,
    )
    model = CLIPTextModel(theirs) if config.projection is None else CLIPTextModelWithProjection(theirs)
    wanted = model.state_dict()
    weights = tower.state_dict()
    model.load_state_dict({name: weights[name if name in weights else f"text_model.{name}"] for name in wanted})
    return model.eval().requires_grad_(False)


def to_toy_file(tower: ClipTower) -> dict[str, Tensor]:
    """The tensors of a folder `text_encoder`."""
    return {name: tensor.detach().clone() for name, tensor in tower.state_dict().items()}


def is_near(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return one.shape == other.shape and bool(torch.isfinite(one).all()) and (one - other).abs().max().item() <= tolerance


def to_openclip(tensors: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """OpenCLIP's names written out, from ours."""
    ours = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    theirs = {
        "positional_embedding": ours["embeddings.position_embedding.weight"],
        "token_embedding.weight": ours["embeddings.token_embedding.weight"],
        "ln_final.weight": ours["final_layer_norm.weight"],
        "ln_final.bias": ours["final_layer_norm.bias"],
    }
    if "text_projection.weight" in ours:
        theirs["text_projection"] = ours["text_projection.weight"].T.contiguous()
    for layer in range(layers):
        here, there = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            theirs |= {f"{there}{their}{kind}": ours[f"{here}{our}{kind}"] for their, our in PARTS.items()}
            theirs[f"{there}attn.in_proj_{kind}"] = torch.cat([ours[f"{here}self_attn.{one}_proj.{kind}"] for one in "qkv"])
    return theirs
