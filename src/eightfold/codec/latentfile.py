"""The latent file: one image's raw latent, with all that is needed to get the image back at its size."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar, cast, get_args

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..checkpoints.formats import TensorInfo, read_safetensors_header
from ..checkpoints.save import write_safetensors
from ..core.errors import CheckpointError, LatentError
from ..families.spaces import SPACES
from ..specs.space import Reading, Space
from .comfylatent import RAW, SUFFIX, check_space, read_raw, to_shape, to_tensors
from .imageread import LIMIT

MARK = "eightfold.latent"
VERSION = "1"
ORIGIN = "eightfold.origin"
ENCODE = "`eightfold encode IMAGE` writes latent files"
DAMAGED = "the file is damaged: encode the picture again"

T = TypeVar("T")


class Padding(NamedTuple):
    """Pixels added on each side before encoding."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Latent:
    """`raw` is what the autoencoder's posterior gave, before any normalisation; `width` and `height` are the picture's, in pixels.

    `encoder` and `decoder` are fingerprints, empty where unknown; `seed` is that of a sampled reading; `alpha` the picture's own, 0 to 255.
    `dtype` is the one it was computed in, `reason` says why, `notes` what was done otherwise than asked, `run` by which kernels and
    how; `origin` is what a batch made it of: see `pipelines.origin`.
    """

    raw: Float[Tensor, "1 c h w"]
    space: str
    width: int
    height: int
    padding: Padding
    reading: Reading
    seed: int | None = None
    encoder: str = ""
    decoder: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    alpha: UInt8[Tensor, "1 1 H W"] | None = None
    dtype: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()
    run: Mapping[str, object] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the latent file; one named NAME.latent is laid out so that ComfyUI reads it too.

        Raises OutputError, and LatentError for a latent that could not be read back.
        """
        check_latent(self, "the latent")
        comfy = Path(path).suffix == SUFFIX
        tensors = to_tensors(self.raw, find_space(self.space)) if comfy else {"latent": self.raw.float()}
        if self.alpha is not None:
            tensors["alpha"] = self.alpha
        write_safetensors(path, tensors, to_metadata(self), overwrite=overwrite)


def to_metadata(latent: Latent) -> dict[str, str]:
    texts = {
        MARK: VERSION,
        "eightfold.space": latent.space,
        "eightfold.width": str(latent.width),
        "eightfold.height": str(latent.height),
        "eightfold.padding": json.dumps(list(latent.padding)),
        "eightfold.reading": latent.reading,
        "eightfold.encoder": latent.encoder,
        "eightfold.decoder": latent.decoder,
        "eightfold.versions": json.dumps(dict(latent.versions), sort_keys=True),
    }
    texts |= {} if latent.seed is None else {"eightfold.seed": str(latent.seed)}
    texts |= {"eightfold.dtype": latent.dtype, "eightfold.reason": latent.reason} if latent.dtype else {}
    texts |= {"eightfold.run": json.dumps(dict(latent.run))} if latent.run else {}
    texts |= {ORIGIN: json.dumps(dict(latent.origin), sort_keys=True)} if latent.origin else {}
    return texts | ({"eightfold.notes": json.dumps(latent.notes)} if latent.notes else {})


def read_latent(path: str | Path, *, space: Space | None = None) -> Latent:
    """Read a latent file. Everything in the header is checked before the tensors are read; raises LatentError.

    A `.latent` of ComfyUI does not say whose it is: it is taken for one of `space`, of a picture that fills its cells.
    """
    try:
        tensors, metadata = read_safetensors_header(path)
    except CheckpointError as error:
        raise LatentError(str(error), hint=ENCODE) from None
    name = "latent" if "latent" in tensors else RAW
    if metadata.get(MARK) is None and RAW in tensors:
        return read_unmarked(path, tensors, space)
    if metadata.get(MARK) is None or name not in tensors:
        raise LatentError(f"{path} is a safetensors file, but not a latent of Eightfold", hint=ENCODE)
    if metadata[MARK] != VERSION:
        raise LatentError(
            f"{path} is a latent file of version {metadata[MARK]!r}, expected {VERSION}", hint="a newer Eightfold may read it"
        )
    check_tensor(path, name, tensors[name], "F32")
    if "alpha" in tensors:
        check_tensor(path, "alpha", tensors["alpha"], "U8")
    try:
        with safe_open(str(path), framework="pt") as file:
            raw, alpha = file.get_tensor(name), file.get_tensor("alpha") if "alpha" in tensors else None
    except (SafetensorError, OSError) as error:
        raise LatentError(f"{path} cannot be read: {error}", hint=DAMAGED) from None
    latent = to_latent(path, raw, alpha, metadata)
    check_latent(latent, str(path))
    return latent


def read_unmarked(path: str | Path, tensors: Mapping[str, TensorInfo], space: Space | None) -> Latent:
    """ComfyUI's own file. It says neither the picture's size nor how the posterior was read."""
    channels, rows, columns = to_shape(path, tensors[RAW])
    space = check_space(path, channels, space)
    check_tensor(path, RAW, TensorInfo("F32", (1, channels, rows, columns)), "F32")
    width, height = columns * space.downscale, rows * space.downscale
    raw = read_raw(path, tensors)
    latent = Latent(raw=raw, space=space.name, width=width, height=height, padding=Padding(0, 0, 0, 0), reading="mode")
    check_latent(latent, str(path))
    return latent


def find_space(name: str) -> Space | None:
    return next((one for one in SPACES if one.name == name), None)


def check_tensor(path: str | Path, name: str, info: TensorInfo, dtype: str) -> None:
    if info.dtype != dtype or len(info.shape) != 4 or info.shape[0] != 1 or 0 in info.shape:
        expected = f"{dtype}[1, {'1' if name == 'alpha' else 'channels'}, height, width]"
        raise LatentError(f"{path}: tensor {name} is {info.dtype}{list(info.shape)}, expected {expected}", hint=ENCODE)
    if info.shape[2] * info.shape[3] > LIMIT:
        raise LatentError(f"{path}: tensor {name} is {info.shape[3]}x{info.shape[2]}, more than {LIMIT / 1e6:.0f} million", hint=DAMAGED)


def to_latent(path: str | Path, raw: Tensor, alpha: Tensor | None, metadata: Mapping[str, str]) -> Latent:
    def take(key: str, convert: Callable[[str], T]) -> T:
        try:
            return convert(metadata[f"eightfold.{key}"])
        except KeyError:
            raise LatentError(f"{path}: its metadata lack eightfold.{key}", hint=DAMAGED) from None
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise LatentError(f"{path}: its metadata have eightfold.{key} = {metadata[f'eightfold.{key}'][:80]!r}", hint=DAMAGED) from None

    return Latent(
        raw=raw,
        space=take("space", str),
        width=take("width", int),
        height=take("height", int),
        padding=take("padding", to_padding),
        reading=take("reading", to_reading),
        seed=take("seed", int) if "eightfold.seed" in metadata else None,
        encoder=take("encoder", str),
        decoder=take("decoder", str),
        versions=take("versions", to_texts),
        alpha=alpha,
        dtype=metadata.get("eightfold.dtype", ""),
        reason=metadata.get("eightfold.reason", ""),
        notes=take("notes", to_notes) if "eightfold.notes" in metadata else (),
        run=take("run", to_run) if "eightfold.run" in metadata else {},
        origin=take("origin", to_texts) if ORIGIN in metadata else {},
    )


def to_texts(text: str) -> dict[str, str]:
    return {str(name): str(value) for name, value in json.loads(text).items()}


def to_notes(text: str) -> tuple[str, ...]:
    notes = json.loads(text)
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError(text)
    return tuple(notes)


def to_run(text: str) -> dict[str, object]:
    run = json.loads(text)
    if not isinstance(run, dict):
        raise ValueError(text)
    return run


def to_padding(text: str) -> Padding:
    numbers = json.loads(text)
    if len(numbers) != 4 or not all(type(number) is int for number in numbers):
        raise ValueError(text)
    return Padding(*numbers)


def to_reading(text: str) -> Reading:
    if text not in get_args(Reading):
        raise ValueError(text)
    return cast(Reading, text)


def check_latent(latent: Latent, source: str) -> None:
    """The picture with its padding must cover the latent's cells exactly, and every number must be finite."""
    raw, width, height, padding = latent.raw, latent.width, latent.height, latent.padding
    if raw.ndim != 4 or len(raw) != 1 or 0 in raw.shape:
        raise LatentError(f"{source} has the shape {list(raw.shape)}, expected [1, channels, height, width]", hint=ENCODE)
    sizes = f"{width}x{height} with padding {list(padding)}"
    if min(width, height) < 1 or min(padding) < 0 or width * height > LIMIT:
        raise LatentError(f"{source}: a picture of {sizes} cannot be", hint=DAMAGED)
    across, down = width + padding[0] + padding[2], height + padding[1] + padding[3]
    space = find_space(latent.space)
    if space is not None and raw.shape[1] != space.channels:
        raise LatentError(f"{source} has {raw.shape[1]} channels, space {space.name} has {space.channels}", hint=DAMAGED)
    scale = space.downscale if space is not None else across // raw.shape[3]
    if (across, down) != (raw.shape[3] * scale, raw.shape[2] * scale):
        cells = f"{raw.shape[3]}x{raw.shape[2]} cells of {scale} pixels"
        raise LatentError(f"{source}: a picture of {sizes} does not fill {cells}", hint=DAMAGED)
    if latent.alpha is not None and tuple(latent.alpha.shape) != (1, 1, height, width):
        raise LatentError(f"{source}: its alpha is {list(latent.alpha.shape)}, the picture {width}x{height}", hint=DAMAGED)
    wrong = int((~torch.isfinite(raw)).sum())
    if wrong:
        raise LatentError(f"{source} has {wrong} values of {raw.numel()} that are not finite", hint="encode again with --dtype float32")
