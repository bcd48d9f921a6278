"""Whole models of toy width in files: a base and a refiner as Stable Diffusion XL has them, in the pocket model's latent space.

Their families have the names and the data of the real ones but for widths, and the marks that these leave.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from eightfold.checkpoints.kinds import AUTOENCODERS, Kind
from eightfold.checkpoints.load import read_tensors
from eightfold.checkpoints.save import write_safetensors
from eightfold.denoisers.unet import UNet
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.families.spaces import POCKET
from eightfold.specs.family import Defaults, Edition, Family
from eightfold.specs.mark import Mark
from eightfold.specs.network import UNetConfig, VectorConfig
from eightfold.specs.text import ClipText
from pocketfile import POCKET_FILE
from toytowers import BOTH, REFINER, build_tower, to_toy_file
from weights import randomise

BESIDE = "add_embedding.linear_1.weight"
NUMBERS = ("height", "width", "top", "left")
TOY = UNetConfig(
    channels=4,
    out_channels=4,
    context=48,
    width=32,
    multipliers=(1, 2),
    blocks=1,
    attention=(0, 1),
    head_width=16,
    groups=8,
    linear_projection=True,
    vector=VectorConfig(pooled=20, numbers=(*NUMBERS, "target_height", "target_width"), sinusoid=8),
)
TOY_REFINER = replace(TOY, context=32, vector=VectorConfig(pooled=20, numbers=(*NUMBERS, "aesthetic_score"), sinusoid=8))
REFINED = next(edition for edition in SDXL_FAMILY.editions if edition.name == "refiner")
XL = replace(
    SDXL_FAMILY,
    space=POCKET,
    keymap=None,
    denoiser=TOY,
    text=BOTH,
    marks=(Mark("conv_in.weight"),),
    editions=(
        Edition(name="base", marks=(Mark(BESIDE, (None, 68)),)),
        replace(REFINED, marks=(Mark(BESIDE, (None, 60)),), keymap=None, denoiser=TOY_REFINER, text=REFINER),
    ),
    defaults=Defaults(size=(48, 32), steps=8, sampler="euler", grid="trailing", guidance=4.0),
)


def know(monkeypatch: pytest.MonkeyPatch, *families: Family) -> None:
    """Let files of these families be known, in place of those of all others."""
    kinds = [
        Kind(component="denoiser", family=family.name, space=family.space, variant=one.name, marks=(*family.marks, *one.marks), keymap=None)
        for family in families
        for one in family.editions
    ]
    monkeypatch.setattr("eightfold.checkpoints.identity.KINDS", (*AUTOENCODERS, *kinds))
    monkeypatch.setattr("eightfold.pipelines.bundle.FAMILIES", families)


def write_model(
    path: Path, config: UNetConfig, text: ClipText | None, *, seed: int = 1, marks: Iterable[tuple[str, Tensor]] = (), vae: bool = True
) -> Path:
    """An all-in-one file; without `text` or `vae` one that lacks them. `marks` are tensors that stand in it by themselves."""
    tensors = {f"model.diffusion_model.{name}": tensor for name, tensor in randomise(UNet(config), seed=seed).state_dict().items()}
    if vae:
        tensors |= {f"vae.{name}": tensor for name, tensor in read_tensors(POCKET_FILE, "autoencoder.").items()}
    for tower in (reading.tower for reading in text.readings) if text else ():
        own = to_toy_file(build_tower(tower, seed=tower.width))  # the same in every file
        tensors |= {f"text_encoders.{tower.name}.{name}": tensor for name, tensor in own.items()}
    write_safetensors(path, {**tensors, **dict(marks)}, {}, overwrite=False)
    return path
