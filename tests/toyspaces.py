"""Every latent space with a small network of its own kind and random weights, in the form in which its public file holds them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from eightfold.autoencoders.build import build_autoencoder
from eightfold.codec.codec import Codec
from eightfold.codec.load import build_codec
from eightfold.core.device import Placement
from eightfold.families.spaces import SPACES
from eightfold.specs.network import (
    AutoencoderConfig,
    Flux2Config,
    HunyuanConfig,
    IdentityConfig,
    KLConfig,
    QwenConfig,
    RefinerConfig,
)
from eightfold.specs.space import Space
from weights import draw, randomise

FOUR = KLConfig(channels=4, width=8, multipliers=(1, 1, 2, 2), blocks=1, groups=4)
SIXTEEN = replace(FOUR, channels=16, quant_convs=False)
SMALL: dict[str, AutoencoderConfig] = {  # channels and downscale are those of the space
    "pocket": FOUR,
    "sd": FOUR,
    "sdxl": FOUR,
    "sd3": SIXTEEN,
    "flux1": SIXTEEN,
    "qwen": QwenConfig(channels=16, width=8, multipliers=(1, 2, 2, 2), blocks=1),
    "flux2": Flux2Config(width=8, decoder_width=16, multipliers=(1, 1, 2, 2), blocks=1, groups=4),
    "hunyuan": HunyuanConfig(channels=64, width=32, multipliers=(1, 1, 2, 2, 4, 4), blocks=1, groups=8),
    "hunyuan-refiner": RefinerConfig(channels=32, width=16, multipliers=(1, 1, 2, 4, 4), blocks=1),
    "pixels": IdentityConfig(),
}
TOYS = {space.name: replace(space, autoencoder=SMALL[space.name]) for space in SPACES}


def draw_weights(space: Space, *, frames: bool = True) -> dict[str, Tensor]:
    """Random weights; with statistics that are not 0 and 1 where the space has such, and with a frame axis where its file has one.

    Without `frames`, those of the network in the plane that they fold to.
    """
    network = randomise(build_autoencoder(space.autoencoder), seed=1)
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if "bn.running_mean" in tensors:
        count = len(tensors["bn.running_mean"])
        tensors |= {"bn.running_mean": draw(count, seed=2), "bn.running_var": draw(count, seed=3).square() + 0.5}
    return {name: add_frames(name, tensor, space.autoencoder) if frames else tensor for name, tensor in tensors.items()}


def add_frames(name: str, tensor: Tensor, config: AutoencoderConfig) -> Tensor:
    """Kernels of three taps: for Qwen the last is the one that counts, for the refiner it is their sum."""
    if isinstance(config, QwenConfig) and tensor.ndim == 4 and "resample" not in name:
        return torch.stack([torch.full_like(tensor, 9), torch.full_like(tensor, -7), tensor], dim=2)
    if isinstance(config, RefinerConfig) and tensor.ndim == 4 and tensor.shape[-1] == 3:
        return torch.stack([tensor / 4, tensor / 2, tensor / 4], dim=2)
    return tensor


def build_toy_codec(space: Space, placement: Placement | None = None) -> Codec:
    return build_codec(draw_weights(space), {}, space=space, source=f"toy {space.name}", placement=placement)
