"""Which of several spaces with the same tensors an autoencoder is of: measured on the latents of pictures.

Each space's normalisation is made to bring the latents of its own autoencoder to a spread of 1, over usual pictures. Latents spread as
their pictures do: twice the contrast gives about twice the spread. So every candidate's normalisation is applied to the raw latents, the
spread of each picture's latents is divided by the picture's own, and the candidate nearest to what is usual wins. Spreads are taken around
the mean of all pictures, so that neither the size nor the content of a picture counts for much.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..checkpoints.candidates import find_space
from ..checkpoints.identity import Identity
from ..codec.codec import Codec
from ..codec.load import load_codec
from ..codec.normalisation import normalise
from ..core.errors import RequestError
from ..specs.space import Normalisation, Space
from .references import crop_to_multiple, read_references

USUAL = 2.26  # a picture's latents spread so many times as far as the means of its 8x8 pixels, in [-1, 1]
BLOCK = 8
FLAT = 0.02  # a picture of less contrast says nothing
LEAST = 0.1  # natural logarithm of the spread: what sets of pictures differ by among themselves, whatever their contrast


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Mean and standard deviation of all latents under one space's normalisation.

    `spread` is a picture's, over what is expected of its contrast; the mean of the middle half of all pictures. `distance` is |ln spread|.
    """

    space: str
    mean: float
    std: float
    spread: float
    distance: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`space` is None where the two nearest are less than `least` apart. `mean` and `std` are those of the raw latents, per channel."""

    space: str | None
    margin: float
    least: float
    measured: tuple[Measured, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pictures: int


def measure_spaces(codec: Codec, spaces: Sequence[Space], images: Sequence[Float[Tensor, "1 3 h w"]]) -> Verdict:
    """Encode `images` ([-1, 1]; the posterior's mode is taken) and tell which of two or more `spaces` the raw latents are of.

    Raises RequestError where all pictures are flat.
    """
    images = [crop_to_multiple(image, codec.space.latent_downscale) for image in images]
    contrasts = to_deviations([F.avg_pool2d(image, min(BLOCK, *image.shape[-2:])) for image in images])
    kept = [(image, USUAL * contrast) for image, contrast in zip(images, contrasts, strict=True) if contrast >= FLAT]
    if not kept:
        raise RequestError("the pictures are all of one colour", hint="leave them out, or name others")
    raws = [codec.encode(image, reading="mode").raw for image, _ in kept]
    measured = sorted((measure_space(space, raws, [want for _, want in kept]) for space in spaces), key=lambda one: one.distance)
    margin = measured[1].distance - measured[0].distance
    cells = to_cells(raws)
    return Verdict(
        space=measured[0].space if margin >= LEAST else None,
        margin=margin,
        least=LEAST,
        measured=tuple(measured),
        mean=tuple(float(one) for one in cells.mean(dim=1)),
        std=tuple(float(one) for one in cells.std(dim=1)),
        pictures=len(raws),
    )


def measure_file(path: str | Path, identity: Identity, pictures: Sequence[Path]) -> Verdict:
    """Which of the spaces that the file's autoencoder ties between it is of, by the package's pictures and the user's.

    Raises ImageError, CheckpointError.
    """
    spaces = [find_space(name) for name in identity.ties]
    return measure_spaces(load_codec(path, space=identity.ties[0]), spaces, read_references(pictures))


def to_cells(latents: Sequence[Float[Tensor, "1 c h w"]]) -> Float[Tensor, "c n"]:
    """All cells of all pictures, in float64; every picture counts for its size."""
    return torch.cat([latent[0].flatten(1).double() for latent in latents], dim=1)


def to_deviations(pictures: Sequence[Float[Tensor, "1 c h w"]]) -> list[float]:
    """How far each picture's cells lie from the mean of all pictures: root of the mean square, and over channels the geometric mean."""
    cells = [picture[0].flatten(1).double() for picture in pictures]
    centre = torch.stack([one.mean(dim=1) for one in cells]).mean(dim=0)[:, None]
    return [(one - centre).square().mean(dim=1).sqrt().clamp(min=1e-12).log().mean().exp().item() for one in cells]


def measure_space(space: Space, raws: Sequence[Float[Tensor, "1 c h w"]], expected: Sequence[float]) -> Measured:
    """The raw latents as this space would hand them to a denoiser. Raises TypeError for a space whose weights bring the numbers."""
    if not isinstance(space.normalisation, Normalisation):
        raise TypeError(f"{space.name} takes its normalisation from the weights")
    latents = [normalise(raw, space.packing, space.normalisation) for raw in raws]
    spreads = sorted(math.log(spread / want) for spread, want in zip(to_deviations(latents), expected, strict=True))
    middle = statistics.fmean(spreads[len(spreads) // 4 : len(spreads) - len(spreads) // 4])
    cells = to_cells(latents)
    std = cells.std(dim=1).mean().item()
    return Measured(space=space.name, mean=cells.mean().item(), std=std, spread=math.exp(middle), distance=abs(middle))
