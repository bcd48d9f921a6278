"""ControlNets of the public layouts, at full width without numbers and at a toy width with them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from eightfold.denoisers.control import ControlNet
from eightfold.specs.control import ControlConfig
from eightfold.specs.family import Family
from eightfold.specs.network import UNetConfig
from layouts import Shapes
from weights import randomise


def to_toy(unet: UNetConfig) -> UNetConfig:
    """As deep, and shown the same, at 32 channels; with heads of which every level has a whole number."""
    return replace(unet, width=32, head_width=16 if unet.heads is None else None, heads=unet.heads and 4)


def to_config(family: Family, *, toy: bool = False) -> ControlConfig:
    return ControlConfig(unet=to_toy(family.denoiser) if toy else family.denoiser)


def to_shapes(family: Family, *, toy: bool = False) -> Shapes:
    with torch.device("meta"):
        network = ControlNet(to_config(family, toy=toy))
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def build_toy(family: Family, seed: int = 1) -> dict[str, Tensor]:
    return randomise(ControlNet(to_config(family, toy=True)), seed=seed).state_dict()
