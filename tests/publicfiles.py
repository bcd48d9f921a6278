"""Stable Diffusion's files at their public width: published names and shapes, numbers that are all 0, and next to no room on the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from math import prod
from pathlib import Path

import torch

from eightfold.checkpoints.formats import BITS
from eightfold.families.clip import CLIP_L, OPENCLIP_BIGG, OPENCLIP_H
from eightfold.specs.text import ClipConfig
from eightfold.text.clip import ClipTower
from layouts import Shapes, read_layout
from toytowers import to_openclip

Stored = dict[str, tuple[str, tuple[int, ...]]]  # name -> type as safetensors spells it, shape

CHANNELS = {"base": 4, "refiner": 4, "inpaint": 9, "instruct": 8}
TABLE = (  # of the noise, which early trainers kept among the weights
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "logvar",
    "lvlb_weights",
)
IDS = {"text_model.embeddings.position_ids": ("I64", (1, 77))}
LOSS = {
    "loss.logvar": ("F32", ()),
    "loss.perceptual_loss.net.slice1.0.weight": ("F32", (64, 3, 3, 3)),
    "loss.discriminator.main.0.weight": ("F32", (64, 3, 4, 4)),
    "loss.discriminator.main.3.num_batches_tracked": ("I64", ()),
}


def write_sparse(path: Path, tensors: Stored) -> dict[str, int]:
    """A safetensors file of zeros, of which only the header is written; the first byte of every tensor in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header, places, place = {}, {}, 0
    for name, (dtype, shape) in sorted(tensors.items(), key=lambda one: -BITS[one[1][0]]):
        places[name], size = place, prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + place)
    return {name: 8 + len(text) + first for name, first in places.items()}


def to_half(shapes: Shapes, prefix: str = "") -> Stored:
    return {prefix + name: ("BF16", shape) for name, shape in shapes.items()}


def add_prefix(prefix: str, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> Stored:
    return {prefix + name: one for name, one in tensors.items()}


@cache
def list_tower(config: ClipConfig, *, is_open: bool = False) -> Shapes:
    """Of a text tower, in the layout of transformers or of OpenCLIP."""
    with torch.device("meta"):
        tensors = ClipTower(config).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in (to_openclip(tensors, config.layers) if is_open else tensors).items()}


def list_denoiser(family: str, edition: str, *, original: bool) -> Shapes:
    name = "sdxl-refiner" if edition == "refiner" else family
    shapes = dict(read_layout(f"{name}_denoiser{'.original' if original else ''}"))
    first = "input_blocks.0.0.weight" if original else "conv_in.weight"
    return {**shapes, first: (shapes[first][0], CHANNELS[edition], 3, 3)}


def list_whole(family: str, edition: str) -> Stored:
    """An all-in-one file in the original layout, with nothing more than a picture needs."""
    stored = to_half(list_denoiser(family, edition, original=True), "model.diffusion_model.")
    stored |= to_half(read_layout("sd_vae.original"), "first_stage_model.")
    if edition == "refiner":
        return stored | to_half(list_tower(OPENCLIP_BIGG, is_open=True), "conditioner.embedders.0.model.")
    if family == "sdxl":
        stored |= to_half(list_tower(CLIP_L), "conditioner.embedders.0.transformer.")
        return stored | to_half(list_tower(OPENCLIP_BIGG, is_open=True), "conditioner.embedders.1.model.")
    if family == "sd2":
        return stored | to_half(list_tower(OPENCLIP_H, is_open=True), "cond_stage_model.model.")
    return stored | to_half(list_tower(CLIP_L), "cond_stage_model.transformer.")


def list_leftovers(family: str, edition: str) -> Stored:
    """What files in the original layout bring along and nobody needs."""
    stored: Stored = dict.fromkeys(TABLE, ("F32", (1000,)))
    stored |= {"model_ema.decay": ("F32", ()), "model_ema.num_updates": ("I32", ())}
    shapes = list_denoiser(family, edition, original=True)
    stored |= {"model_ema." + f"diffusion_model.{name}".replace(".", ""): ("BF16", shape) for name, shape in shapes.items()}
    stored |= add_prefix("first_stage_model.", LOSS)
    score = {"logit_scale": ("F32", ()), "attn_mask": ("F32", (77, 77))}
    if family == "sdxl":
        stored |= {"denoiser.sigmas": ("F32", (1000,))}
        stored |= add_prefix(f"conditioner.embedders.{0 if edition == 'refiner' else 1}.model.", score)
        return stored if edition == "refiner" else stored | add_prefix("conditioner.embedders.0.transformer.", IDS)
    if family == "sd2":
        return stored | add_prefix("cond_stage_model.model.", score | {"text_projection": ("BF16", (1024, 1024))})
    return stored | add_prefix("cond_stage_model.transformer.", IDS) | {"cond_stage_model.logit_scale": ("F32", ())}


def list_parts(family: str, edition: str) -> dict[str, Stored]:
    """The weight files of a folder in diffusers' layout."""
    parts = {
        "unet/diffusion_pytorch_model": to_half(list_denoiser(family, edition, original=False)),
        "vae/diffusion_pytorch_model": to_half(read_layout("sdxl_vae" if family == "sdxl" else "sd1_vae")),
    }
    if edition != "refiner":
        parts["text_encoder/model"] = to_half(list_tower(OPENCLIP_H if family == "sd2" else CLIP_L))
    if family == "sdxl":
        parts["text_encoder_2/model"] = to_half(list_tower(OPENCLIP_BIGG))
    if family == "sd2":  # the last layer is not read, and was left out
        last = f"text_model.encoder.layers.{OPENCLIP_H.layers - 1}."
        parts["text_encoder/model"] = {name: one for name, one in parts["text_encoder/model"].items() if not name.startswith(last)}
    return parts


def write_folder(path: Path, parts: Mapping[str, Stored]) -> dict[str, int]:
    """The first byte of every tensor in its file, by the folder's name and its own."""
    places: dict[str, int] = {}
    for name, stored in parts.items():
        folder = name.partition("/")[0]
        found = write_sparse(path / f"{name}.safetensors", stored)
        places |= {f"{folder}/{one}": place for one, place in found.items()}
    listed = {name.partition("/")[0]: ["diffusers", "Network"] for name in parts}
    others = {"scheduler": ["diffusers", "DDIMScheduler"], "feature_extractor": [None, None], "_class_name": "StableDiffusionPipeline"}
    (path / "scheduler").mkdir()
    (path / "scheduler" / "scheduler_config.json").write_text("{}")
    (path / "model_index.json").write_text(json.dumps({**listed, **others}))
    return places
