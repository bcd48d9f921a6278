"""Pictures of any size to latents and back, at the same size."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..autoencoders.staged import StagedAutoencoder
from ..core.device import name_dtype
from ..core.errors import LatentError, SpaceMismatch
from ..core.rng import build_generator, draw_noise
from ..core.versions import read_versions
from ..specs.space import Normalisation, Reading, Space, Speech
from .engine import Engine, Planned
from .explain import Explanation, Task
from .latentfile import Latent, check_latent, read_latent
from .normalisation import denormalise, normalise
from .padding import crop, pad_to_multiple
from .pixels import Picture, read_picture, to_bytes
from .precision import Autoencoder, Outcome, Work, run_widening

CPU = torch.device("cpu")
WIDEST = "--dtype float32 has the widest range"


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """A float32 image in [-1, 1] on the CPU, the dtype it was computed in and why, and what was done otherwise than asked.

    `run` says by which kernels it was computed, and how much was kept meanwhile.
    """

    image: Float[Tensor, "1 3 h w"]
    dtype: str
    reason: str
    notes: tuple[str, ...]
    run: Mapping[str, object]


@dataclass(frozen=True, kw_only=True, eq=False)
class Codec:
    """An autoencoder with its space, the normalisation its weights go with, and the fingerprints of its two halves.

    Fingerprints are those of the tensors in the file, under our names. Networks that the file keeps for video (Qwen-Image, the refiner of
    HunyuanImage 2.1) run with kernels that were folded into the plane at load: what they run with has other shapes and other numbers.
    `reason` says why the network runs where it does and in `dtype`; `notes` what was asked for and not done. `rebuild` gives the network in
    a wider dtype, for what overflows; without it that is an error. `speaks`: see `specs.space.Variant`. `engine` runs the network.
    """

    network: Autoencoder
    space: Space
    normalisation: Normalisation
    encoder_fingerprint: str = ""
    decoder_fingerprint: str = ""
    source: str = "the autoencoder"
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    reason: str = ""
    notes: tuple[str, ...] = ()
    speaks: Speech = "raw"
    rebuild: Callable[[torch.dtype], Autoencoder] | None = None
    engine: Engine = field(default_factory=Engine)

    @torch.no_grad()
    def encode(self, picture: str | Path | Picture | Float[Tensor, "1 3 h w"], *, reading: Reading | None = None, seed: int = 0) -> Latent:
        """A file, a picture or an image to its latent, by default to the posterior's mode; `seed` is for "sample".

        Sides that the space's downscale does not divide are padded by reflection, at the right and below.
        """
        if isinstance(picture, str | Path):
            picture = read_picture(picture)
        if isinstance(picture, Tensor):
            picture = Picture(picture)
        reading = reading or "mode"
        padded, padding = pad_to_multiple(picture.image, self.space.latent_downscale)
        outcome, run = self.run(lambda network, dtype: read_posterior(network, padded.to(self.device, dtype), reading))
        raw, *std = outcome.tensors
        if std:
            raw = raw + std[0] * draw_noise(tuple(raw.shape), build_generator(seed, "posterior"))
        latent = Latent(
            raw=self.denormalise(raw) if self.speaks == "latent" else raw,
            space=self.space.name,
            width=picture.width,
            height=picture.height,
            padding=padding,
            reading=reading,
            seed=seed if reading == "sample" else None,
            encoder=self.encoder_fingerprint,
            decoder=self.decoder_fingerprint,
            versions=read_versions(),
            alpha=None if picture.alpha is None else to_bytes(picture.alpha * 2 - 1),
            dtype=name_dtype(outcome.dtype),
            reason=self.to_reason(outcome),
            notes=(*self.notes, *outcome.notes, *to_notes(run)),
            run=run,
        )
        check_latent(latent, f"what {self.source} made of {picture.source or 'the image'} in {latent.dtype}")
        return latent

    def encode_start(self, picture: str | Path | Picture | Float[Tensor, "1 3 h w"], *, seed: int = 0) -> Latent:
        """The latent of a picture that generation starts from, its posterior read as the space's own tools do (`Space.start_reading`)."""
        return self.encode(picture, reading=self.space.start_reading, seed=seed)

    def decode(self, latent: str | Path | Latent, *, force: bool = False) -> Picture:
        """A latent or a latent file to its picture, at the size that was encoded and with its alpha.

        Raises SpaceMismatch for a latent of another space, unless `force`, which is recorded in the metadata; with other channels or
        another downscale always. The picture's `warnings` tell where the latent was made by other weights or for another space.
        """
        source = "the latent" if isinstance(latent, Latent) else str(latent)
        latent = latent if isinstance(latent, Latent) else read_latent(latent, space=self.space)
        check_latent(latent, source)
        foreign = latent.space != self.space.name
        channels = latent.raw.shape[1]
        if foreign and (not force or channels != self.space.channels):
            theirs, ours = f"{latent.space} ({channels} channels)", f"{self.space.name} ({self.space.channels})"
            forcing = ", or --force to decode it all the same" if channels == self.space.channels else ""
            hint = f"name a {latent.space} autoencoder with --vae{forcing}"
            why = "; --force cannot make its channels fit" if force else ""
            raise SpaceMismatch(f"{source} is in space {theirs}, {self.source} decodes space {ours}{why}", hint=hint)
        return self.decode_as(latent.raw, latent, forced=foreign)

    def decode_as(self, raw: Float[Tensor, "1 c h w"], latent: Latent, *, forced: bool = False) -> Picture:
        """A raw latent to a picture with the size, the alpha and the origin of `latent`."""
        decoded = self.decode_one(raw)
        image = crop(decoded.image, latent.padding, latent.width, latent.height)
        if tuple(image.shape[2:]) != (latent.height, latent.width):
            what = f"decoded to {image.shape[3]}x{image.shape[2]}, the picture is {latent.width}x{latent.height}"
            raise SpaceMismatch(f"{self.source}: {what}", hint=f"name a {latent.space} autoencoder with --vae")
        warnings = (f"a latent of space {latent.space} decoded by force in space {self.space.name}",) if forced else ()
        if not forced and latent.encoder and self.encoder_fingerprint and latent.encoder != self.encoder_fingerprint:
            warnings = (f"encoded by other weights ({latent.encoder[:12]})",)
        alpha = None if latent.alpha is None else latent.alpha.float() / 255
        record = {"space": latent.space, "reading": latent.reading, "seed": latent.seed, "forced": forced}
        record |= {"encoder": latent.encoder, "decoder": self.decoder_fingerprint, "dtype": decoded.dtype, "dtype_reason": decoded.reason}
        record |= {"run": decoded.run}
        record |= {"notes": [*latent.notes, *decoded.notes], **read_versions()}
        metadata = {"eightfold": json.dumps(record)}
        return Picture(image, alpha, self.source, decoded.notes, metadata, warnings=warnings)

    def decode_raw(self, raw: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Raw latents to float32 images in [-1, 1] on the CPU, one at a time, so that each is the same in any company."""
        return torch.cat([self.decode_one(one).image for one in raw.split(1)])

    @torch.no_grad()
    def decode_one(self, raw: Float[Tensor, "1 c h w"]) -> Decoded:
        """One raw latent to its image. Raises LatentError for values that no dtype keeps finite."""
        latent = self.normalise(raw) if self.speaks == "latent" else raw
        outcome, run = self.run(lambda network, dtype: (network.decode(latent.to(self.device, dtype)),))
        dtype = name_dtype(outcome.dtype)
        if outcome.wrong:
            raise LatentError(f"{self.source} decoded to {outcome.wrong} values that are not finite, in {dtype}", hint=WIDEST)
        image, notes = outcome.tensors[0].clamp(-1, 1), (*self.notes, *outcome.notes, *to_notes(run))
        return Decoded(image=image, dtype=dtype, reason=self.to_reason(outcome), notes=notes, run=run)

    def run(self, work: Work) -> tuple[Outcome, dict[str, object]]:
        """What came of it, and how it was run."""
        record: dict[str, object] = {}

        def to_planned(network: Autoencoder) -> Autoencoder:
            planned = isinstance(network, StagedAutoencoder)
            return Planned(network, self.engine, record, self.space.downscale) if planned else network

        def rebuild(dtype: torch.dtype) -> Autoencoder:
            assert self.rebuild is not None
            return to_planned(self.rebuild(dtype))

        outcome = run_widening(work, self.dtype, to_planned(self.network), None if self.rebuild is None else rebuild)
        return outcome, record

    def plan(self, task: Task, width: int, height: int) -> Explanation | None:
        """How a picture of this size would be encoded or decoded, in how much memory and time; None for a network without stages.

        Raises RequestError where the engine's memory is too small for it.
        """
        if not isinstance(self.network, StagedAutoencoder):
            return None
        multiple, downscale = self.space.latent_downscale, self.space.downscale
        height, width = (-(-side // multiple) * multiple for side in (height, width))
        shape = (3, height, width) if task == "encode" else (self.space.channels, height // downscale, width // downscale)
        return self.engine.explain(self.network, task, shape, self.device, self.dtype)

    def to_reason(self, outcome: Outcome) -> str:
        """Why it was computed where it was and in which dtype, down to the last rerun."""
        return "; ".join(text for text in (self.reason, *outcome.notes) if text)

    def normalise(self, raw: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Raw latent to what a denoiser sees: packed as the space says, then (packed - shift) * scale."""
        return normalise(raw, self.space.packing, self.normalisation)

    def denormalise(self, latent: Float[Tensor, "b c2 h2 w2"]) -> Float[Tensor, "b c h w"]:
        """The inverse of `normalise`."""
        return denormalise(latent, self.space.packing, self.normalisation)


def to_notes(run: Mapping[str, object]) -> tuple[str, ...]:
    """What is not as the network would give it."""
    return (f"approximate: in tiles of {run['tiles']}",) if "tiles" in run else ()


def read_posterior(network: Autoencoder, image: Float[Tensor, "1 3 h w"], reading: Reading) -> tuple[Tensor, ...]:
    """The mean, and for a sample the standard deviation."""
    posterior = network.encode(image)
    return (posterior.mean, posterior.std) if reading == "sample" else (posterior.mean,)
