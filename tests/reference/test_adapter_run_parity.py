"""Whole runs with a LoRA, from its file to the last latent, against diffusers' pipelines with the weights that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import torch
from test_generation_parity import GUIDANCE, SEED, SIZE, build_pipeline, build_scheduler, compare, draw_noise
from test_prompt_parity import build_pipeline as build_encoders
from torch import Tensor, nn

from adapterfile import LAYOUTS, name_layer
from eightfold.checkpoints.save import write_safetensors
from eightfold.nn.lora import list_layers
from eightfold.nn.lowrank import Layer
from eightfold.pipelines.bundle import NOTHING, Model, load
from eightfold.pipelines.extras import Extras
from eightfold.pipelines.request import Request
from eightfold.text.clip import ClipTower
from eightfold.text.clipcondition import ClipConditioner
from toyfamilies import AUTOENCODER, TOYS, install, write_file
from weights import draw

STEPS = 4
RANK, ALPHA, WEIGHT = 3, 1.5, 0.7
PROMPT, NEGATIVE = "a red cat, on a mat", "blurry"
PIPELINES = {"sd1": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
TEXT = {  # how names begin, the first tower's and the second's, what is between their words, and how the factors are called
    "kohya": ("lora_te1_text_model_", "lora_te2_text_model_", "_", ".lora_down.weight", ".lora_up.weight"),
    "diffusers": (
        "text_encoder.text_model.",
        "text_encoder_2.text_model.",
        ".",
        ".lora_linear_layer.down.weight",
        ".lora_linear_layer.up.weight",
    ),
}


class Factors(NamedTuple):
    """Of one layer, in the shapes that files have."""

    up: Tensor
    down: Tensor

    def merge(self, weight: Tensor) -> Tensor:
        return weight + WEIGHT * ALPHA / RANK * (self.up.flatten(1) @ self.down.flatten(1)).reshape(weight.shape)


def draw_layer(layer: Layer, seed: int) -> Factors:
    """They change its weight by about a third."""
    columns, kernel = layer.weight[0].numel(), [1] * (layer.weight.ndim - 2)
    up = draw(len(layer.weight), RANK, *kernel, seed=seed)
    return Factors(0.5 * up, columns**-0.5 * draw(RANK, *layer.weight.shape[1:], seed=seed + 1))


def draw_factors(network: nn.Module, seed: int) -> dict[str, Factors]:
    return {name: draw_layer(layer, seed + 2 * number) for number, (name, layer) in enumerate(list_layers(network))}


def to_file(model: Model, unet: Mapping[str, Factors], towers: list[dict[str, Factors]], layout: str) -> dict[str, Tensor]:
    """As trainers write it; the original names are those of kohya's files for XL."""
    of_unet = f"{layout}, original" if layout == "kohya" and model.family.name == "sdxl" else layout
    *_, down, up, alpha = LAYOUTS[of_unet]
    tensors: dict[str, Tensor] = {}
    for name, one in unet.items():
        named = name_layer(name, of_unet, model.family.keymap)
        tensors |= {f"{named}{down}": one.down, f"{named}{up}": one.up, f"{named}{alpha}": torch.tensor(ALPHA)}
    *begins, between, down, up = TEXT[layout]
    if len(towers) == 1:
        begins[0] = begins[0].replace("te1", "te")
    for begin, factors in zip(begins, towers, strict=False):
        for name, one in factors.items():
            named = begin + name.replace(".", between)
            tensors |= {f"{named}{down}": one.down, f"{named}{up}": one.up, f"{named}.alpha": torch.tensor(ALPHA)}
    return tensors


def merge(network: nn.Module, factors: Mapping[str, Factors]) -> None:
    for name, one in factors.items():
        layer = cast(nn.Linear, network.get_submodule(name))
        layer.weight = nn.Parameter(one.merge(layer.weight), requires_grad=False)


def draw_ours(model: Model) -> Tensor:
    how: dict[str, Any] = {"size": SIZE, "steps": STEPS, "guidance": GUIDANCE, "seed": SEED, "sampler": "ddim", "grid": "trailing"}
    *_, last = model.generate(Request(prompt=PROMPT, negative=NEGATIVE, noise_source="diffusers", **how))
    return last.noisy


def draw_theirs(model: Model) -> Tensor:
    """Prompt and all."""
    pipeline = build_pipeline(PIPELINES[model.family.name], model, build_scheduler(model, clip_sample=False), AUTOENCODER)
    encoders = build_encoders(cast(ClipConditioner, model.text).towers)
    for name in ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"):
        if hasattr(pipeline, name):
            setattr(pipeline, name, getattr(encoders, name))
    return pipeline(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        latents=draw_noise(),
        width=SIZE[0],
        height=SIZE[1],
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="latent",
    ).images


@pytest.mark.parametrize("layout", TEXT)
@pytest.mark.parametrize("family", PIPELINES)
@torch.no_grad()
def test_a_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, layout: str) -> None:
    install(monkeypatch.setattr)
    path = write_file(tmp_path / "model.safetensors", TOYS[family].to_edition("base"))
    plain = load(path, device="cpu")
    towers: list[ClipTower] = [*cast(ClipConditioner, plain.text).towers]
    unet, texts = draw_factors(plain.denoiser, 100), [draw_factors(tower.text_model, 5000 + n) for n, tower in enumerate(towers)]
    write_safetensors(tmp_path / "lora.safetensors", to_file(plain, unet, texts, layout), {}, overwrite=False)
    model = load(path, extras=Extras(adapters=((tmp_path / "lora.safetensors", WEIGHT),)), device="cpu")
    assert plain.extras == NOTHING and model.warnings == ()
    without, found = draw_ours(plain), draw_ours(model)
    merged = deepcopy(plain)
    merge(merged.denoiser, unet)
    for tower, factors in zip(cast(ClipConditioner, merged.text).towers, texts, strict=True):
        merge(tower.text_model, factors)
    compare(found, draw_theirs(merged))
    assert (found - without).abs().max() > 0.5
    told, plainly = (cast(ClipConditioner, one.text).encode([PROMPT]).tokens for one in (model, plain))
    assert (told - plainly).abs().max() > 0.1
