"""Round trips compared: pictures through several autoencoders, once or again and again, and what each cycle loses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from ..codec.codec import Codec
from ..codec.latentfile import Latent
from ..codec.pixels import Picture, from_bytes, read_picture, to_bytes
from ..core.errors import EightfoldError, RequestError
from ..metrics.flip import flip
from ..metrics.pixels import psnr, shift_channels, ssim
from ..specs.space import Reading
from .request import check_seed

MOST_CYCLES = 1000


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How near a decoded picture is to the original, both as 8-bit sRGB.

    `psnr` in dB (infinite: equal), `ssim` up to 1, `flip` from 0 up to 1: see `metrics`. For red, green and blue: `mean_shift`, the mean
    decoded less the original's, in levels of 255; `contrast`, the standard deviation over the original's.
    """

    psnr: float
    ssim: float
    flip: float
    mean_shift: tuple[float, ...]
    contrast: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trip:
    """A picture after one more cycle through an autoencoder, always measured against the original.

    `autoencoder` is the caller's name for it, `encoder` and `decoder` the fingerprints of its weights; `cycle` counts from 1;
    `latent` is what this cycle encoded; `errors` is FLIP's map; `placement` says why it ran on `device` and in `dtype`.
    """

    source: str
    autoencoder: str
    space: str
    encoder: str
    decoder: str
    cycle: int
    original: Picture
    latent: Latent
    decoded: Picture
    errors: Float[Tensor, "h w"]
    figures: Figures
    device: str
    dtype: str
    placement: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Lost:
    """A picture that could not be read (`autoencoder` empty), or not be carried on through an autoencoder."""

    source: str
    autoencoder: str
    error: Exception


def run_roundtrips(
    sources: Sequence[str | Path], codecs: Mapping[str, Codec], *, cycles: int = 1, reading: Reading | None = None, seed: int = 0
) -> Iterator[Trip | Lost]:
    """Every picture through every autoencoder, `cycles` times; `codecs` are named as the results should name them.

    Cycle n encodes what cycle n-1 decoded, rounded to 8 bits as a saved file would have been; where `reading` is "sample" it draws by
    seed + n - 1. A picture that fails gives a Lost and leaves the others. Raises RequestError for cycles or a seed out of range.
    """
    check_cycles(cycles, seed)
    for source in sources:
        try:
            original = read_picture(source)
        except (EightfoldError, MemoryError) as error:
            yield Lost(source=str(source), autoencoder="", error=error)
            continue
        for name, codec in codecs.items():
            try:
                yield from repeat_trip(codec, name, original, cycles, reading, seed)
            except (EightfoldError, MemoryError, RuntimeError) as error:  # torch says RuntimeError where memory runs out
                yield Lost(source=str(source), autoencoder=name, error=error)


def check_cycles(cycles: int, seed: int) -> None:
    """Raise RequestError for a number of cycles, or seeds for them, that are out of range."""
    if not 1 <= cycles <= MOST_CYCLES:
        raise RequestError(f"cycles {cycles}: expected 1 to {MOST_CYCLES}", hint="--cycles 3")
    check_seed(seed, cycles)


def repeat_trip(codec: Codec, name: str, original: Picture, cycles: int, reading: Reading | None, seed: int) -> Iterator[Trip]:
    picture = original
    for cycle in range(1, cycles + 1):
        latent = codec.encode(picture, reading=reading, seed=seed + cycle - 1)
        decoded = codec.decode(latent)
        figures, errors = measure(original, decoded)
        record = json.loads(decoded.metadata["eightfold"])
        yield Trip(
            source=original.source,
            autoencoder=name,
            space=latent.space,
            encoder=codec.encoder_fingerprint,
            decoder=codec.decoder_fingerprint,
            cycle=cycle,
            original=original,
            latent=latent,
            decoded=decoded,
            errors=errors,
            figures=figures,
            device=str(codec.device),
            dtype=record["dtype"],
            placement=record["dtype_reason"],
            notes=tuple(dict.fromkeys((*original.notes, *latent.notes, *decoded.notes))),
        )
        picture = replace(decoded, image=from_bytes(to_bytes(decoded.image)), metadata={})


def measure(original: Picture, decoded: Picture) -> tuple[Figures, Float[Tensor, "h w"]]:
    """The figures of one pair, and FLIP's map of errors. Alpha is left out."""
    errors = flip(original.image, decoded.image)
    shift, contrast = shift_channels(original.image, decoded.image)
    figures = Figures(
        psnr=psnr(original.image, decoded.image),
        ssim=ssim(original.image, decoded.image),
        flip=float(errors.double().mean()),
        mean_shift=shift,
        contrast=contrast,
    )
    return figures, errors
