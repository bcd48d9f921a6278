"""From raw latents to what a denoiser sees and back: packing, and the numbers that the weights or the space bring."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import CheckpointError, LatentError
from ..specs.space import Normalisation, Packing, Space, Statistics

DAMAGED = "the file is damaged: fetch it again"


def pack(raw: Float[Tensor, "b c h w"], packing: Packing) -> Float[Tensor, "b c2 h2 w2"]:
    """Squares of cells to channels, ordered by channel, row, column; then copies. Raises LatentError for sides that do not fit."""
    height, width = raw.shape[-2:]
    if height % packing.side or width % packing.side:
        what = f"a latent of {width}x{height} cells cannot be packed by {packing.side}x{packing.side}"
        raise LatentError(what, hint=f"both sides have to be a multiple of {packing.side}; encoding a picture here sees to that")
    return F.pixel_unshuffle(raw, packing.side).repeat(1, packing.copies, 1, 1)


def unpack(latent: Float[Tensor, "b c2 h2 w2"], packing: Packing) -> Float[Tensor, "b c h w"]:
    """The inverse of `pack`; of the copies the last one counts."""
    return F.pixel_shuffle(latent.chunk(packing.copies, dim=1)[-1], packing.side)


def normalise(raw: Float[Tensor, "b c h w"], packing: Packing, numbers: Normalisation) -> Float[Tensor, "b c2 h2 w2"]:
    """(packed - shift) * scale."""
    packed = pack(raw, packing)
    return (packed - to_column(numbers.shift, packed)) * to_column(numbers.scale, packed)


def denormalise(latent: Float[Tensor, "b c2 h2 w2"], packing: Packing, numbers: Normalisation) -> Float[Tensor, "b c h w"]:
    """The inverse of `normalise`."""
    return unpack(latent / to_column(numbers.scale, latent) + to_column(numbers.shift, latent), packing)


def to_column(numbers: tuple[float, ...], like: Tensor) -> Float[Tensor, "1 _ 1 1"]:
    return torch.tensor(numbers, device=like.device, dtype=like.dtype)[None, :, None, None]


def to_metadata(normalisation: Normalisation) -> dict[str, str]:
    """How weights carry their own normalisation; `find_normalisation` reads it."""
    return {"eightfold.scale": json.dumps(normalisation.scale), "eightfold.shift": json.dumps(normalisation.shift)}


def find_normalisation(metadata: Mapping[str, str], tensors: Mapping[str, Tensor], space: Space, source: str) -> Normalisation:
    """What the metadata say, else the statistics among the weights, else the space's constants. Raises CheckpointError."""
    if "eightfold.scale" in metadata:
        return read_numbers(metadata, space, source)
    if isinstance(space.normalisation, Statistics):
        return read_statistics(tensors, space.normalisation, space, source)
    return space.normalisation


def read_numbers(metadata: Mapping[str, str], space: Space, source: str) -> Normalisation:
    try:
        scale, shift = (tuple(float(n) for n in json.loads(metadata.get(f"eightfold.{key}", "[0]"))) for key in ("scale", "shift"))
    except (ValueError, TypeError):
        raise CheckpointError(f"{source}: its normalisation is not a list of numbers", hint=DAMAGED) from None
    numbers = torch.tensor([*scale, *shift])
    if any(len(part) not in (1, space.latent_channels) for part in (scale, shift)) or not torch.isfinite(numbers).all() or 0 in scale:
        what = f"{source}: its normalisation has the scale {scale} and the shift {shift}"
        raise CheckpointError(what, hint=f"expected finite numbers, one or {space.latent_channels} of each, and no scale of 0")
    return Normalisation(scale=scale, shift=shift)


def read_statistics(tensors: Mapping[str, Tensor], statistics: Statistics, space: Space, source: str) -> Normalisation:
    found = [tensors.get(name) for name in (statistics.mean, statistics.variance)]
    expected = f"{space.latent_channels} finite numbers each, no variance below 0"
    if any(one is None or tuple(one.shape) != (space.latent_channels,) for one in found):
        raise CheckpointError(f"{source} lacks {statistics.mean} or {statistics.variance}", hint=f"expected {expected}")
    mean, variance = (one.double() for one in found if one is not None)
    if not (torch.isfinite(mean).all() and torch.isfinite(variance).all() and bool((variance >= 0).all())):
        raise CheckpointError(f"{source}: {statistics.mean} and {statistics.variance} are no statistics", hint=f"expected {expected}")
    return Normalisation(scale=tuple((variance + statistics.eps).rsqrt().tolist()), shift=tuple(mean.tolist()))
