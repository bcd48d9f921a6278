"""Pictures: image tensors to and from image files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from torch import Tensor

from ..core.errors import OutputError
from ..core.files import refuse_existing, write_atomically
from .comments import from_exif, to_exif, to_texts

if TYPE_CHECKING:
    from PIL import Image

STILLS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
ANIMATIONS = {".gif": "GIF", ".webp": "WEBP"}
LONGEST = {"PNG": 2**31 - 1, "JPEG": 65500, "WEBP": 16383, "GIF": 65535}  # pixels along a side


@dataclass(frozen=True, eq=False)
class Picture:
    """An image in [-1, 1] with what an image tensor cannot hold.

    `alpha` is in [0, 1]; `source` says where the picture came from; `notes` what was changed on the way; `metadata` is written with it.
    `warnings` say why it may not be what was meant.
    """

    image: Float[Tensor, "1 3 h w"]
    alpha: Float[Tensor, "1 1 h w"] | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return self.image.shape[-1]

    @property
    def height(self) -> int:
        return self.image.shape[-2]

    def save(self, path: str | Path, *, overwrite: bool = False) -> tuple[str, ...]:
        """Write it as PNG, JPEG or WebP, by the name's ending, with its metadata; see `write_picture`."""
        return write_picture(path, self.image, alpha=self.alpha, metadata=self.metadata, overwrite=overwrite)


def read_picture(path: str | Path) -> Picture:
    """Read an image file: EXIF orientation applied, colours converted to sRGB, alpha beside the image, grey as RGB.

    16-bit grey keeps its precision, 16-bit colour is read as 8 and noted. Raises ImageError, for too many pixels before any is decoded.
    """
    from .imageread import decode_image

    decoded = decode_image(path)
    if decoded.pixels.ndim == 2:
        image = repeat(torch.from_numpy(decoded.pixels), "h w -> 1 c h w", c=3) * 2 - 1
    else:
        image = from_bytes(torch.from_numpy(rearrange(decoded.pixels, "h w c -> 1 c h w")))
    alpha = None if decoded.alpha is None else torch.from_numpy(decoded.alpha)[None, None].float() / 255
    return Picture(image, alpha, str(path), decoded.notes)


def from_bytes(pixels: UInt8[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """0..255 to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_bytes(image: Float[Tensor, "*s"]) -> UInt8[Tensor, "*s"]:
    """[-1, 1] to 0..255, rounded half up, clamped. Raises OutputError on NaN and infinity, which would turn black or white unseen."""
    wrong = int((~torch.isfinite(image)).sum())
    if wrong:
        what = f"the picture has {wrong} values of {image.numel()} that are not finite"
        raise OutputError(what, hint="decode again with --dtype float32")
    return ((image.float() + 1) * 127.5 + 0.5).floor().clamp(0, 255).to(torch.uint8)


def to_image(picture: Image.Image) -> Float[Tensor, "1 3 h w"]:
    """A Pillow image, taken as sRGB, to a tensor in [-1, 1]; alpha is dropped."""
    return from_bytes(torch.from_numpy(rearrange(np.array(picture.convert("RGB")), "h w c -> 1 c h w")))


def to_pil(image: Float[Tensor, "1 3 h w"], alpha: Float[Tensor, "1 1 h w"] | None = None) -> Image.Image:
    """An image in [-1, 1] to a Pillow image, RGB or with `alpha` RGBA."""
    from PIL import Image

    pixels = to_bytes(image)
    if alpha is not None:
        pixels = torch.cat([pixels, to_bytes(alpha * 2 - 1)], dim=1)
    return Image.fromarray(rearrange(pixels.cpu(), "1 c h w -> h w c").contiguous().numpy())


def write_picture(
    path: str | Path,
    image: Float[Tensor, "1 3 h w"],
    *,
    alpha: Float[Tensor, "1 1 h w"] | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Write a PNG, a JPEG (quality 95, full colour resolution) or a lossless WebP, by the name's ending; return notes on what was lost.

    `metadata` becomes PNG text, or EXIF in the other two (see `comments.to_exif`). JPEG has no alpha: the picture is laid on white.
    Raises OutputError: an unknown ending, a file that is there, a side the format cannot hold, no space, values that are not finite.
    """
    from PIL import Image

    kind, metadata, notes = find_kind(path, STILLS), metadata or {}, ()
    refuse_existing(path, overwrite=overwrite)
    picture = to_pil(image, alpha)
    if kind == "JPEG" and picture.mode == "RGBA":
        paper = Image.new("RGBA", picture.size, "white")
        picture, notes = Image.alpha_composite(paper, picture).convert("RGB"), ("JPEG has no alpha: laid on white",)
    if kind == "PNG":
        options: dict[str, Any] = {"pnginfo": to_chunks(metadata)}
    elif kind == "JPEG":
        options = {"quality": 95, "subsampling": 0, **to_exif(metadata)}
    else:
        options = {"lossless": True, "exact": True, **to_exif(metadata)}  # exact: colours under clear pixels stay
    write_pillow(path, picture, kind, options, overwrite=overwrite)
    return notes


def write_animation(
    path: str | Path,
    frames: Sequence[Float[Tensor, "1 3 h w"]],
    *,
    milliseconds: int,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write frames of one size, each shown for `milliseconds`, as a GIF (256 colours a frame) or a lossless WebP that repeats."""
    kind, metadata = find_kind(path, ANIMATIONS), metadata or {}
    refuse_existing(path, overwrite=overwrite)
    sizes = {tuple(frame.shape) for frame in frames}
    if len(sizes) != 1:
        raise OutputError(f"{path}: {len(frames)} frames of {len(sizes)} sizes", hint="an animation has frames of one size")
    first, *others = [to_pil(frame) for frame in frames]
    options: dict[str, Any] = {"save_all": True, "append_images": others, "duration": milliseconds, "loop": 0}
    options |= {"comment": json.dumps(dict(metadata)).encode()} if kind == "GIF" and metadata else {}
    options |= {"lossless": True, **to_exif(metadata)} if kind == "WEBP" else {}
    write_pillow(path, first, kind, options, overwrite=overwrite)


def find_kind(path: str | Path, kinds: Mapping[str, str]) -> str:
    ending = Path(path).suffix.lower()
    if ending not in kinds:
        raise OutputError(f"{path}: unknown ending {ending!r}", hint=f"known: {' '.join(kinds)}")
    return kinds[ending]


def write_pillow(path: str | Path, picture: Image.Image, kind: str, options: Mapping[str, Any], *, overwrite: bool) -> None:
    if max(picture.size) > LONGEST[kind]:
        hint = "PNG holds any size"
        raise OutputError(f"{path}: {picture.width}x{picture.height} is too large for {kind}, at most {LONGEST[kind]} a side", hint=hint)
    encoded = BytesIO()  # in memory first: then writing fails as files fail, not in each encoder's own way
    try:
        picture.save(encoded, kind, **options)
    except Exception as error:
        raise OutputError(f"{path} cannot be encoded as {kind}: {error}", hint="PNG holds any size and any metadata") from error
    with write_atomically(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def to_chunks(metadata: Mapping[str, str]) -> Any:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for key, value in metadata.items():
        chunks.add_text(key, value) if value.isascii() else chunks.add_itxt(key, value.encode("utf-8", "replace").decode())
    return chunks


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts that `write_picture` or `write_animation` put into an image file; empty where there are none. Raises ImageError."""
    from .imageread import open_image

    with open_image(path) as image:
        if image.format == "PNG":
            return {key: str(value) for key, value in image.text.items()}  # type: ignore[attr-defined]
        if image.format == "GIF":
            return to_texts(image.info.get("comment", b""))
        return from_exif(image)
