"""An autoencoder from its config, and weights from a file made ready for it: both by the config's type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..specs.network import AutoencoderConfig, Flux2Config, HunyuanConfig, IdentityConfig, KLConfig, QwenConfig, RefinerConfig, TinyConfig
from .flux2 import Flux2Autoencoder
from .hunyuan import HunyuanAutoencoder, fold_hunyuan
from .identity import IdentityAutoencoder
from .kl import KLAutoencoder
from .qwen import QwenAutoencoder, fold_qwen
from .refiner import RefinerAutoencoder, fold_refiner
from .staged import StagedAutoencoder
from .tiny import TinyAutoencoder

Network = StagedAutoencoder | IdentityAutoencoder

NETWORKS: dict[type, Callable[[Any], Network]] = {
    KLConfig: KLAutoencoder,
    Flux2Config: Flux2Autoencoder,
    QwenConfig: QwenAutoencoder,
    HunyuanConfig: HunyuanAutoencoder,
    RefinerConfig: RefinerAutoencoder,
    TinyConfig: TinyAutoencoder,
    IdentityConfig: IdentityAutoencoder,
}
FOLDS: dict[type, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    QwenConfig: fold_qwen,
    HunyuanConfig: fold_hunyuan,
    RefinerConfig: fold_refiner,
}


def build_autoencoder(config: AutoencoderConfig) -> Network:
    """The network that the config describes, with random weights."""
    return NETWORKS[type(config)](config)


def fold_weights(config: AutoencoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as public files hold them (diffusers layout) as the network takes them: kernels over time become kernels over the plane."""
    return FOLDS.get(type(config), dict)(tensors)
