"""ComfyUI's `.latent` file: raw latents in safetensors, which does not say of which autoencoder.

Tensor `latent_tensor` holds what the autoencoder gave, before any normalisation. An empty tensor, `latent_format_version_0`, marks the
files that hold it as it is; in older ones it is multiplied by Stable Diffusion's scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..checkpoints.formats import TensorInfo
from ..checkpoints.load import read_tensors
from ..core.errors import CheckpointError, LatentError
from ..specs.space import Space

SUFFIX = ".latent"
RAW, UNSCALED = "latent_tensor", "latent_format_version_0"
OLD_SCALE = 0.18215
DTYPES = ("F16", "BF16", "F32", "F64")
NAME_IT = "`eightfold decode FILE.latent --vae VAE` decodes it with the autoencoder that made it"


def to_shape(path: str | Path, info: TensorInfo) -> tuple[int, int, int]:
    """Channels, rows and columns of the one latent; a single frame of a video is a picture. Raises LatentError."""
    shape = (*info.shape[:2], *info.shape[3:]) if len(info.shape) == 5 and info.shape[2] == 1 else info.shape
    if info.dtype not in DTYPES or len(shape) != 4 or 0 in shape:
        what = f"{info.dtype}{list(info.shape)}, expected numbers with a fraction in [1, channels, height, width]"
        raise LatentError(f"{path}: tensor {RAW} is {what}", hint="a latent of pictures is expected, not of video or sound")
    if shape[0] != 1:
        raise LatentError(
            f"{path} holds {shape[0]} latents, expected one", hint="save them one by one: Latent From Batch, then Save Latent"
        )
    return shape[1], shape[2], shape[3]


def check_space(path: str | Path, channels: int, space: Space | None) -> Space:
    """`space` is that of the autoencoder at hand: such a file goes with any that has as many channels."""
    if space is None:
        raise LatentError(f"{path} is a latent of ComfyUI with {channels} channels; it does not say of which space", hint=NAME_IT)
    if channels == space.channels:
        return space
    packed = " (of this space ComfyUI stores packed latents)" if channels == space.latent_channels else ""
    raise LatentError(f"{path} has {channels} channels{packed}, space {space.name} has {space.channels}", hint=NAME_IT)


def read_raw(path: str | Path, tensors: Mapping[str, TensorInfo]) -> Float[Tensor, "1 c h w"]:
    """The raw latent in float32. `tensors` are from the file's header."""
    channels, height, width = to_shape(path, tensors[RAW])
    try:
        raw = read_tensors(path, RAW)[""].float().reshape(1, channels, height, width)
    except CheckpointError as error:
        raise LatentError(str(error), hint=error.hint) from None
    return raw.clone() if UNSCALED in tensors else raw / OLD_SCALE


def to_tensors(raw: Float[Tensor, "1 c h w"], space: Space | None) -> dict[str, Tensor]:
    """What the file holds. Raises LatentError for a space whose latents ComfyUI packs otherwise."""
    if space is not None and space.latent_channels != space.channels:
        what = f"ComfyUI packs latents of space {space.name} into {space.latent_channels} channels"
        raise LatentError(f"{what}, which is not written here", hint="name the file NAME.latent.safetensors")
    return {RAW: raw.float(), UNSCALED: torch.empty(0)}
