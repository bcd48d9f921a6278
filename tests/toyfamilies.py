"""Stable Diffusion's families at a toy width: whole models of random weights, in files and folders that all of `load` takes.

Everything that files are known by stays, but for widths: those of the text, and what follows from them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.checkpoints import candidates, identity
from eightfold.checkpoints.convert import to_original
from eightfold.checkpoints.save import write_safetensors
from eightfold.denoisers.control import ControlNet
from eightfold.denoisers.unet import UNet
from eightfold.families.catalog import FAMILIES
from eightfold.families.clip import SD1_TEXT, SD2_TEXT, SDXL_REFINER_TEXT, SDXL_TEXT
from eightfold.families.keymaps.kl import KL
from eightfold.families.sd1 import SD1
from eightfold.families.sd2 import SD2
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.pipelines import bundle
from eightfold.specs.control import ControlConfig
from eightfold.specs.family import Edition, Family, Reading
from eightfold.specs.mark import Mark
from eightfold.specs.network import UNetConfig
from eightfold.specs.text import ClipText
from toyspaces import FOUR
from toytowers import BOTH, FIRST, REFINER, SECOND, build_tower, to_openclip
from weights import randomise

POOLED = 20
SIZES = {768: 16, 1024: 24, 2048: 48, 1280: 32, 2816: POOLED + 6 * 256, 2560: POOLED + 5 * 256}  # of the marks
TEXTS = {SD1_TEXT: FIRST, SD2_TEXT: SECOND, SDXL_TEXT: BOTH, SDXL_REFINER_TEXT: REFINER}
AUTOENCODER = replace(FOUR, blocks=2)
TOWERS = {  # where all-in-one files have them: the prefix of each, and whether it is OpenCLIP's
    FIRST: (("cond_stage_model.transformer.", False),),
    SECOND: (("cond_stage_model.model.", True),),
    BOTH: (("conditioner.embedders.0.transformer.", False), ("conditioner.embedders.1.model.", True)),
    REFINER: (("conditioner.embedders.0.model.", True),),
}

Tensors = dict[str, Tensor]


def to_toy_unet(config: UNetConfig) -> UNetConfig:
    heads = {"head_width": 8} if config.heads is None else {"heads": 2}
    vector = config.vector and replace(config.vector, pooled=POOLED)
    return replace(config, width=16, groups=8, context=SIZES[config.context], vector=vector, **heads)


def to_toy_marks(marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
    return tuple(replace(mark, shape=tuple(SIZES.get(size or 0, size) for size in mark.shape)) for mark in marks)


def to_toy_edition(edition: Edition) -> Edition:
    denoiser = edition.denoiser and to_toy_unet(edition.denoiser)
    defaults = edition.defaults and replace(edition.defaults, size=(64, 64))
    readings = edition.readings and tuple(map(to_toy_reading, edition.readings))
    own = replace(edition, marks=to_toy_marks(edition.marks), denoiser=denoiser, text=edition.text and TEXTS[edition.text])
    return replace(own, defaults=defaults, readings=readings)


def to_toy_reading(reading: Reading) -> Reading:
    return replace(reading, defaults=reading.defaults and replace(reading.defaults, size=(96, 96), steps=2))


def to_toy_family(family: Family) -> Family:
    assert isinstance(family.text, ClipText)
    return replace(
        family,
        denoiser=to_toy_unet(family.denoiser),
        text=TEXTS[family.text],
        marks=to_toy_marks(family.marks),
        editions=tuple(map(to_toy_edition, family.editions)),
        readings=tuple(map(to_toy_reading, family.readings)),
        defaults=replace(family.defaults, size=(64, 64), steps=2),
    )


TOYS = {family.name: to_toy_family(family) for family in (SD1, SD2, SDXL_FAMILY)}


def install(put: Callable[[object, str, object], None] = setattr) -> None:
    """Have this process take the toys for the families. In a test `put` is the one of its monkeypatch."""
    kinds = [replace(kind, marks=to_toy_marks(kind.marks)) if kind.family in TOYS else kind for kind in identity.KINDS]
    found = candidates.CANDIDATES
    spaces = {toy.space.name for toy in TOYS.values()}
    put(bundle, "FAMILIES", tuple(TOYS.get(family.name, family) for family in FAMILIES))
    put(identity, "KINDS", tuple(kinds))
    put(
        candidates,
        "CANDIDATES",
        tuple(replace(one, autoencoder=AUTOENCODER) if one.name in spaces and one.variant == "base" else one for one in found),
    )


def add_prefix(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def draw_parts(family: Family, seed: int = 0) -> tuple[Tensors, Tensors, tuple[Tensors, ...]]:
    """Random weights of an edition's denoiser, autoencoder and text towers, in our layout."""
    assert isinstance(family.text, ClipText)
    towers = (build_tower(reading.tower, seed + 20 + number) for number, reading in enumerate(family.text.readings))
    denoiser, autoencoder = randomise(UNet(family.denoiser), seed=seed + 1), randomise(KLAutoencoder(AUTOENCODER), seed=seed + 2)
    return denoiser.state_dict(), autoencoder.state_dict(), tuple(tower.state_dict() for tower in towers)


def build_file(family: Family, seed: int = 0) -> Tensors:
    """All of a model in the original layout. `family` is a toy's edition."""
    assert family.keymap is not None and isinstance(family.text, ClipText)
    denoiser, autoencoder, towers = draw_parts(family, seed)
    tensors = add_prefix("model.diffusion_model.", to_original(denoiser, family.keymap))
    tensors |= add_prefix("first_stage_model.", to_original(autoencoder, KL))
    for (prefix, is_open), tower, reading in zip(TOWERS[family.text], towers, family.text.readings, strict=True):
        tensors |= add_prefix(prefix, to_openclip(tower, reading.tower.layers) if is_open else tower)
    return tensors


def write_file(path: Path, family: Family, seed: int = 0) -> Path:
    write_safetensors(path, build_file(family, seed), {}, overwrite=False)
    return path


def write_folder(path: Path, family: Family, seed: int = 0) -> Path:
    """The same model as a folder in diffusers' layout."""
    denoiser, autoencoder, towers = draw_parts(family, seed)
    parts = {"unet/diffusion_pytorch_model": denoiser, "vae/diffusion_pytorch_model": autoencoder}
    parts |= {f"text_encoder{'_2' if number else ''}/model": tower for number, tower in enumerate(towers)}
    for name, tensors in parts.items():
        (path / name).parent.mkdir(parents=True)
        write_safetensors(path / f"{name}.safetensors", tensors, {}, overwrite=False)
    names = {name.partition("/")[0]: ["diffusers", "Network"] for name in parts}
    (path / "model_index.json").write_text(json.dumps({"_class_name": "Pipeline", **names}))
    return path


def write_control(path: Path, family: Family, seed: int = 0) -> Path:
    """A ControlNet for the toy, in diffusers' layout."""
    config = ControlConfig(unet=replace(family.denoiser, channels=family.denoiser.out_channels))
    write_safetensors(path, randomise(ControlNet(config), seed=seed).state_dict(), {}, overwrite=False)
    return path
