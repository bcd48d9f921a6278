"""CLIP's text towers: known in every layout, alone and in a whole model, and converted from one layout to the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from eightfold.checkpoints.entries import Entry, Inventory
from eightfold.checkpoints.identity import Identity, identify_file, identify_inventory
from eightfold.checkpoints.rename import Shape, to_original_names
from eightfold.checkpoints.translate import read_translation, write_translation
from eightfold.families.clip import CLIP_L, OPENCLIP_BIGG, OPENCLIP_H
from eightfold.families.keymaps.clip import CLIP, OPENCLIP
from eightfold.specs.text import ClipConfig
from eightfold.text.clip import ClipTower
from layouts import read_layout

TOWERS = {CLIP_L: CLIP, OPENCLIP_H: OPENCLIP, OPENCLIP_BIGG: OPENCLIP}
each_tower = pytest.mark.parametrize("tower", TOWERS, ids=lambda tower: tower.name)


def to_shapes(tower: ClipConfig) -> dict[str, Shape]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in ClipTower(tower).state_dict().items()}


def identify(shapes: dict[str, Shape], prefix: str = "", format: str = "safetensors") -> list[Identity]:
    tensors = {prefix + name: Entry("F16", shape, Path("file"), 0, 0) for name, shape in shapes.items()}
    return [*identify_inventory(Inventory(source="file", format=format, files=(), tensors=tensors, metadata={}))]  # type: ignore[arg-type]


@each_tower
@pytest.mark.parametrize("keymap", [None, CLIP, OPENCLIP], ids=["diffusers", "clip", "openclip"])
def test_every_layout(tower: ClipConfig, keymap: object) -> None:
    shapes = to_shapes(tower)
    named = shapes if keymap is None else to_original_names(shapes, CLIP if keymap is CLIP else OPENCLIP)
    for prefix, component in (
        ("", "text"),
        ("cond_stage_model.", "text"),
        ("conditioner.embedders.1.", "text.1"),
        ("text_encoders.clip_g.", "text.clip_g"),
    ):
        (found,) = identify(named, prefix)
        assert (found.component, found.tower, found.family, found.space, found.ties) == (component, tower.name, None, None, ())
        assert found.layout == ("diffusers" if keymap is None else "original") and found.evidence and found.nearest is None


def test_spellings_and_leftovers() -> None:
    shapes = to_shapes(CLIP_L)
    bare = {name.removeprefix("text_model."): shape for name, shape in shapes.items()}
    assert identify(bare)[0].tower == "clip-l"
    assert (
        identify(shapes | {"text_model.embeddings.position_ids": (1, 77), "logit_scale": (), "vision_model.x": (2,)})[0].tower == "clip-l"
    )
    embedder = {f"model.{name}": shape for name, shape in to_original_names(to_shapes(OPENCLIP_H), OPENCLIP).items()}
    assert identify(embedder, "cond_stage_model.")[0].tower == "openclip-h"
    (first, second) = identify(
        {f"{folder}/{name}": shape for folder in ("text_encoder", "text_encoder_2") for name, shape in shapes.items()}, format="folder"
    )
    assert (first.component, second.component, first.tower, second.tower) == ("text", "text.2", "clip-l", "clip-l")


def test_diffusers_leaves_out_the_last_layer_of_the_second() -> None:
    assert identify(to_shapes(replace(OPENCLIP_H, layers=23)))[0].tower == "openclip-h"


def test_what_is_none() -> None:
    longer = to_shapes(replace(CLIP_L, tokens=248))
    deeper, shallow = to_shapes(replace(CLIP_L, layers=13)), to_shapes(replace(CLIP_L, layers=10))
    other = to_shapes(replace(CLIP_L, width=512, heads=8))
    for shapes in (longer, deeper, shallow, other):
        (found,) = identify(shapes, "cond_stage_model.")
        assert found.tower is None and found.component == "text" and found.nearest == "text of clip-l (base)" and found.why_not
    (t5,) = identify(
        {"shared.weight": (32128, 4096), "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)}, "text_encoders.t5xxl."
    )
    assert (t5.tower, t5.nearest) == (None, None)


def test_beside_a_model() -> None:
    shapes = {f"model.diffusion_model.{name}": shape for name, shape in read_layout("sd1_denoiser.original").items()}
    shapes |= {f"first_stage_model.{name}": shape for name, shape in read_layout("sd_vae.original").items()}
    shapes |= {f"cond_stage_model.{name}": shape for name, shape in to_original_names(to_shapes(CLIP_L), CLIP).items()}
    found = {one.component: one for one in identify(shapes)}
    assert (found["denoiser"].family, found["autoencoder"].space, found["text"].tower) == ("sd1", "sd", "clip-l")


@each_tower
def test_to_the_other_layout_and_back(tower: ClipConfig, tmp_path: Path) -> None:
    """As wide as they are, which is what they are known by; all else as small as can be."""
    shapes = {name: shape for name, shape in to_shapes(tower).items() if ".layers." not in name or ".layers.0." in name}
    shapes |= {name: shape for name, shape in to_shapes(tower).items() if name.endswith("layer_norm1.weight")}
    shapes["text_model.embeddings.token_embedding.weight"] = (7, tower.width)
    generator = torch.Generator().manual_seed(1)
    tensors = {name: torch.randn(shape, generator=generator).half() for name, shape in shapes.items()}
    save_file({f"cond_stage_model.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "ours.safetensors")
    for source, layout, out in (("ours", "original", "theirs"), ("theirs", "diffusers", "again"), ("theirs", "original", "same")):
        found = read_translation(tmp_path / f"{source}.safetensors", layout=layout)  # type: ignore[arg-type]
        assert found.identity.tower == tower.name
        [*write_translation(found, tmp_path / f"{out}.safetensors")]
    theirs = load_file(tmp_path / "theirs.safetensors")
    names = to_original_names(shapes, TOWERS[tower])
    assert {name: tuple(tensor.shape) for name, tensor in theirs.items()} == names
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == tensors.keys() and all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    assert (tmp_path / "same.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    assert [one.layout for name in ("theirs", "again") for one in identify_file(tmp_path / f"{name}.safetensors")] == [
        "original",
        "diffusers",
    ]
