"""Pictures through latent space: there and back, partly into noise, and from one to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import acos, sin, sqrt
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from ..codec.codec import Codec
from ..codec.latentfile import Latent
from ..codec.pixels import Picture, read_picture
from ..core.errors import RequestError
from ..core.rng import build_generator, draw_noise
from ..diffusion.predict import add_noise
from ..families.catalog import FAMILIES
from ..metrics.pixels import psnr, ssim
from ..specs.process import Process
from ..specs.space import Reading, Space
from .request import check_seed


@dataclass(frozen=True, kw_only=True)
class Roundtrip:
    """A picture, its latent, what came back, and how near that is: PSNR in dB, SSIM up to 1, both on 8-bit sRGB."""

    original: Picture
    latent: Latent
    decoded: Picture
    psnr: float
    ssim: float


def roundtrip(codec: Codec, path: str | Path, *, reading: Reading | None = None, seed: int = 0) -> Roundtrip:
    """Encode and decode one picture and measure the loss."""
    original = read_picture(path)
    latent = codec.encode(original, reading=reading, seed=seed)
    decoded = codec.decode(latent)
    return Roundtrip(
        original=original,
        latent=latent,
        decoded=decoded,
        psnr=psnr(original.image, decoded.image),
        ssim=ssim(original.image, decoded.image),
    )


def diffuse(codec: Codec, process: Process, picture: str | Path | Picture, times: Sequence[float], *, seed: int = 0) -> Iterator[Picture]:
    """The latent of a picture or its file, with the noise of each time mixed in, decoded: forward diffusion made visible.

    It is the state that generation from this picture would start with, so the posterior is read as the space's own tools do.
    The noise is the same at every time, drawn from `seed`. Raises RequestError for a time outside 0 (clean) to 1 (noise).
    """
    for t in times:
        if not 0 <= t <= 1:
            raise RequestError(f"time {t}: expected 0 (clean) to 1 (noise)", hint="--at 0.2,0.5,0.8")
    check_seed(seed)
    latent = codec.encode_start(picture, seed=seed)
    clean = codec.normalise(latent.raw.to(codec.device))
    noise = draw_noise(tuple(clean.shape), build_generator(seed)).to(codec.device)
    for t in times:
        yield codec.decode_as(codec.denormalise(add_noise(clean, noise, process.alpha(t), process.sigma(t))), latent)


def find_process(space: Space) -> Process:
    """The process of the families that live in `space`. Raises RequestError where there is none."""
    found = [family for family in FAMILIES if family.space.name == space.name]
    if not found:
        spaces = ", ".join(dict.fromkeys(family.space.name for family in FAMILIES))
        what = f"no family that lives in space {space.name} is known, so nobody says how noise comes into it"
        raise RequestError(what, hint=f"name an autoencoder of one of the spaces {spaces}")
    return found[0].process


def slerp(start: Float[Tensor, "*s"], end: Float[Tensor, "*s"], share: float) -> Float[Tensor, "*s"]:
    """Along the great circle from `start` (share 0) to `end` (share 1), each taken as one long vector; straight where they are parallel.

    Between two draws of high-dimensional noise the middle keeps their length, which a straight line would not.
    """
    one, other = (side.cpu().double().flatten() for side in (start, end))
    norms = sqrt(float(one @ one) * float(other @ other))
    angle = acos(min(max(float(one @ other) / norms, -1), 1)) if norms > 0 else 0.0
    if sin(angle) < 1e-4:
        return (1 - share) * start + share * end
    return (sin((1 - share) * angle) / sin(angle)) * start + (sin(share * angle) / sin(angle)) * end
