"""Pictures of any size to latents and back, at the same size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..autoencoders.kl import KLAutoencoder
from ..checkpoints.fingerprint import fingerprint
from ..checkpoints.formats import AUTOENCODER, read_safetensors_header, take_part
from ..checkpoints.identify import identify
from ..checkpoints.load import load_module, read_tensors
from ..checkpoints.rename import rename_early_attention
from ..core.device import Placement, choose_placement, name_dtype
from ..core.errors import CheckpointError, LatentError, SpaceMismatch
from ..core.rng import build_generator, draw_noise
from ..core.versions import read_versions
from ..families.spaces import SPACES
from ..specs.space import Normalisation, Reading, Space
from .latentfile import Latent, Padding, check_latent, read_latent
from .pixels import Picture, read_picture, to_bytes

ENCODER, DECODER = ("encoder.", "quant_conv."), ("decoder.", "post_quant_conv.")
CPU = torch.device("cpu")
WIDER = "--dtype float32 has the widest range"


@runtime_checkable
class Posterior(Protocol):
    @property
    def mean(self) -> Tensor: ...
    @property
    def std(self) -> Tensor: ...


@runtime_checkable
class Autoencoder(Protocol):
    """What a codec needs of a network: [-1, 1] images, sides a multiple of the downscale, to a posterior; a raw latent to an image."""

    def encode(self, image: Tensor) -> Posterior: ...
    def decode(self, raw: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Codec:
    """An autoencoder with its space, the normalisation its weights go with, and the fingerprints of its two halves."""

    network: Autoencoder
    space: Space
    normalisation: Normalisation
    encoder_fingerprint: str = ""
    decoder_fingerprint: str = ""
    source: str = "the autoencoder"
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32

    @torch.no_grad()
    def encode(self, picture: str | Path | Picture | Float[Tensor, "1 3 h w"], *, reading: Reading | None = None, seed: int = 0) -> Latent:
        """A file, a picture or an image to its latent. Without a `reading` the space's own is taken; `seed` is for "sample".

        Sides that the downscale does not divide are padded by reflection, at the right and below.
        """
        if isinstance(picture, str | Path):
            picture = read_picture(picture)
        if isinstance(picture, Tensor):
            picture = Picture(picture)
        reading = reading or self.space.reading
        padded, padding = pad_to_multiple(picture.image, self.space.downscale)
        posterior = self.network.encode(padded.to(self.device, self.dtype))
        raw = posterior.mean.float().cpu()
        if reading == "sample":
            raw = raw + posterior.std.float().cpu() * draw_noise(tuple(raw.shape), build_generator(seed, "posterior"))
        latent = Latent(
            raw=raw,
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
        )
        check_latent(latent, f"what {self.source} made of {picture.source or 'the image'} in {name_dtype(self.dtype)}")
        return latent

    def decode(self, latent: str | Path | Latent, *, force: bool = False) -> Picture:
        """A latent or a latent file to its picture, at the size that was encoded and with its alpha.

        Raises SpaceMismatch for a latent of another space, unless `force`, which is recorded in the metadata; with other channels or
        another downscale always. The picture's notes warn where the latent was made by other weights or for another space.
        """
        source = "the latent" if isinstance(latent, Latent) else str(latent)
        latent = latent if isinstance(latent, Latent) else read_latent(latent)
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
        image = crop(self.decode_raw(raw), latent.padding, latent.width, latent.height)
        if tuple(image.shape[2:]) != (latent.height, latent.width):
            what = f"decoded to {image.shape[3]}x{image.shape[2]}, the picture is {latent.width}x{latent.height}"
            raise SpaceMismatch(f"{self.source}: {what}", hint=f"name a {latent.space} autoencoder with --vae")
        notes = (f"a latent of space {latent.space} decoded by force in space {self.space.name}",) if forced else ()
        if not forced and latent.encoder and self.encoder_fingerprint and latent.encoder != self.encoder_fingerprint:
            notes = (f"encoded by other weights ({latent.encoder[:12]})",)
        alpha = None if latent.alpha is None else latent.alpha.float() / 255
        record = {"space": latent.space, "reading": latent.reading, "seed": latent.seed, "forced": forced}
        record |= {"encoder": latent.encoder, "decoder": self.decoder_fingerprint, "dtype": name_dtype(self.dtype), **read_versions()}
        return Picture(image, alpha, self.source, notes, {"eightfold": json.dumps(record)})

    @torch.no_grad()
    def decode_raw(self, raw: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Raw latents to float32 images in [-1, 1] on the CPU, one at a time, so that each is the same in any company."""
        images = torch.cat([self.network.decode(one.to(self.device, self.dtype)).float().cpu() for one in raw.split(1)])
        wrong = int((~torch.isfinite(images)).sum())
        if wrong:
            raise LatentError(f"{self.source} decoded to {wrong} values that are not finite, in {name_dtype(self.dtype)}", hint=WIDER)
        return images.clamp(-1, 1)

    def normalise(self, raw: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Raw latent to what a denoiser sees: (raw - shift) * scale."""
        return (raw - to_column(self.normalisation.shift, raw)) * to_column(self.normalisation.scale, raw)

    def denormalise(self, latent: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The inverse of `normalise`."""
        return latent / to_column(self.normalisation.scale, latent) + to_column(self.normalisation.shift, latent)


def to_column(numbers: tuple[float, ...], like: Tensor) -> Float[Tensor, "1 _ 1 1"]:
    return torch.tensor(numbers, device=like.device, dtype=like.dtype)[None, :, None, None]


def pad_to_multiple(image: Float[Tensor, "b c h w"], multiple: int) -> tuple[Float[Tensor, "b c h2 w2"], Padding]:
    """Grow both sides to a multiple by reflection, as often as it takes: a 1x1 picture is repeated.

    All of it goes to the right and below, so that pixel (0, 0) stays in the corner of latent cell (0, 0)
    and masks and boxes go over by plain division.
    """
    height, width = image.shape[-2:]
    right, bottom = -width % multiple, -height % multiple
    rows, columns = reflect(height, height + bottom), reflect(width, width + right)
    padded = image[..., rows.to(image.device), :][..., columns.to(image.device)] if right or bottom else image
    return padded, Padding(0, 0, right, bottom)


def reflect(size: int, length: int) -> Tensor:
    """Positions 0, 1, ... of a mirror hall of `size` columns whose end columns are not doubled: 0 1 2 1 0 1 ..."""
    period = max(2 * (size - 1), 1)
    position = torch.arange(length) % period
    return torch.minimum(position, period - position) if size > 1 else torch.zeros(length, dtype=torch.long)


def crop(image: Float[Tensor, "b c h w"], padding: Padding, width: int, height: int) -> Float[Tensor, "b c h2 w2"]:
    """Take the padding off again."""
    return image[..., padding.top : padding.top + height, padding.left : padding.left + width]


def load_codec(path: str | Path, *, placement: Placement | None = None) -> Codec:
    """The autoencoder in a safetensors file, alone or inside a whole model; its space is read off its tensors.

    Raises CheckpointError: a broken file, no known space or more than one, tensors that do not fit the network.
    """
    header, metadata = read_safetensors_header(path)
    prefix = AUTOENCODER if any(name.startswith(AUTOENCODER) for name in header) else ""
    shapes = {name: info.shape for name, info in take_part(header, prefix).items()}
    space = identify(shapes, SPACES, source=str(path), declared=metadata.get("eightfold.space"))
    tensors = rename_early_attention(read_tensors(path, prefix))
    return build_codec(tensors, metadata, space=space, source=str(path), placement=placement)


def build_codec(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, space: Space, source: str, placement: Placement | None = None
) -> Codec:
    """A codec from weights under the network's own names, and the metadata of the file they came in."""
    place = placement or choose_placement("cpu")
    network = load_module(lambda: KLAutoencoder(space.autoencoder), tensors, source=source, device=place.device, dtype=place.dtype)
    return Codec(
        network=network,
        space=space,
        normalisation=find_normalisation(metadata, space, source),
        encoder_fingerprint=fingerprint({name: tensor for name, tensor in tensors.items() if name.startswith(ENCODER)}),
        decoder_fingerprint=fingerprint({name: tensor for name, tensor in tensors.items() if name.startswith(DECODER)}),
        source=source,
        device=place.device,
        dtype=place.dtype,
    )


def to_metadata(normalisation: Normalisation) -> dict[str, str]:
    """How weights carry their own normalisation; `find_normalisation` reads it."""
    return {"eightfold.scale": json.dumps(normalisation.scale), "eightfold.shift": json.dumps(normalisation.shift)}


def find_normalisation(metadata: Mapping[str, str], space: Space, source: str) -> Normalisation:
    """What the weights say of themselves, else the space's constants."""
    if "eightfold.scale" not in metadata:
        return space.normalisation
    try:
        scale, shift = (tuple(float(n) for n in json.loads(metadata.get(f"eightfold.{key}", "[0]"))) for key in ("scale", "shift"))
    except (ValueError, TypeError):
        raise CheckpointError(f"{source}: its normalisation is not a list of numbers", hint="the file is damaged: fetch it again") from None
    numbers = torch.tensor([*scale, *shift])
    if any(len(part) not in (1, space.channels) for part in (scale, shift)) or not torch.isfinite(numbers).all() or 0 in scale:
        what = f"{source}: its normalisation has the scale {scale} and the shift {shift}"
        raise CheckpointError(what, hint=f"expected finite numbers, one or {space.channels} of each, and no scale of 0")
    return Normalisation(scale=scale, shift=shift)
