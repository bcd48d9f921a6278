"""Image files through Pillow, with its surprises taken out: orientation, colour profiles, alpha, depth, size limits and odd errors."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import RLock

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from ..core.errors import EightfoldError, ImageError

LIMIT = 2**28  # pixels: 16384 x 16384, 3 GB as float32
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")  # none of them runs another program
READABLE = "readable: PNG, JPEG, WebP, AVIF, TIFF, GIF, BMP, JPEG 2000, QOI and PPM"
DAMAGED = "the file may be damaged: fetch it again, or open and save it in an image editor"
PILLOW = RLock()  # Pillow's size limit and Python's warning filters belong to the whole process

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
FITTING = {"RGB": ("RGB", "L", "1", "P", "YCbCr"), "L": ("L", "1"), "CMYK": ("CMYK",), "LAB": ("LAB",)}


@dataclass(frozen=True)
class Decoded:
    """`pixels` is h w 3 (bytes, sRGB) or h w (float32 in [0, 1], grey); `alpha` h w bytes."""

    pixels: np.ndarray
    alpha: np.ndarray | None
    notes: tuple[str, ...]


@contextmanager
def open_image(path: str | Path) -> Generator[Image.Image, None, None]:
    """The file as an image whose header alone is read; whatever goes wrong in the block with its pixels is an ImageError."""
    path = Path(path)
    require_file(path)
    with PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS
        try:
            Image.MAX_IMAGE_PIXELS = None  # its own limit is lower, and its message does not name the size
            with Image.open(path, formats=find_formats()) as image:
                Image.MAX_IMAGE_PIXELS = LIMIT // 2  # Pillow refuses twice this: frames and tiles found later are held to it
                require_size(path, *image.size)
                yield image
        except EightfoldError:
            raise
        except UnidentifiedImageError:
            raise ImageError(f"{path} is not a picture that can be read", hint=READABLE) from None
        except Exception as error:  # the decoders raise almost anything on damaged data
            raise ImageError(f"{path} cannot be decoded: {to_line(error)}", hint=DAMAGED) from error
        finally:
            Image.MAX_IMAGE_PIXELS = before


def find_formats() -> list[str]:
    """Those of FORMATS that this build of Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def require_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder", hint="name the picture files in it")
        if not path.exists():
            raise ImageError(f"{path} is not there", hint="check the path; a name with blanks needs quotes")
        if not path.is_file():
            raise ImageError(f"{path} is not a regular file", hint=READABLE)
        with path.open("rb") as file:
            if not file.read(1):
                raise ImageError(f"{path} is empty", hint=DAMAGED)
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read {path}: {to_line(error)}", hint="check the path and your rights to read it") from None


def require_size(path: Path, width: int, height: int) -> None:
    if width * height > LIMIT:
        size = f"{width}x{height}, {width * height / 1e6:.0f} million pixels"
        raise ImageError(f"{path} is {size}; the limit is {LIMIT / 1e6:.0f} million", hint="scale it down or cut it first")


def to_line(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def decode_image(path: str | Path) -> Decoded:
    """Pixels in sRGB, upright, with alpha beside them; `notes` say what was changed or lost on the way."""
    with open_image(path) as image:
        notes: list[str] = []
        if getattr(image, "is_animated", False):
            notes.append("first of several frames")
            image.seek(0)
        depth = read_depth(Path(path), image)
        upright, turned = turn_upright(image)
        if turned:
            notes.append(turned)
        base, alpha = split_alpha(upright, depth)
        icc = image.info.get("icc_profile")
        if base.mode in ("I", "F") or base.mode.startswith("I;"):
            pixels = to_grey(Path(path), base, depth)
            if not icc:
                return Decoded(pixels, alpha, (*notes, f"{depth} bits a channel"))
            base = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
        if depth > 8:
            notes.append(f"{depth} bits a channel read as 8")
        rgb, converted = to_srgb(base, icc)
        if converted:
            notes.append(converted)
        return Decoded(np.array(rgb), alpha, tuple(notes))


def read_depth(path: Path, image: Image.Image) -> int:
    """Bits a channel in the file, which Pillow may cut to 8 without a word."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return max(8, file.read(25)[24])
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, 8)  # type: ignore[attr-defined]
        return max(8, *bits) if isinstance(bits, tuple) else max(8, bits)
    if image.format == "PPM":
        args = image.tile[0].args  # type: ignore[attr-defined]
        maximum = args[-1] if isinstance(args, tuple) else 255
        return 16 if image.mode == "I" or (isinstance(maximum, int) and maximum > 255) else 8
    return 16 if image.mode.startswith("I;16") else 8


def turn_upright(image: Image.Image) -> tuple[Image.Image, str]:
    """The image as it was meant to be seen. TIFF files are turned by Pillow while they load, the others here."""
    stated = read_orientation(image)
    image.load()
    left = read_orientation(image)
    turned = image.transpose(TURNS[left]) if left in TURNS else image
    return turned, f"EXIF orientation {stated} applied" if stated in TURNS else ""


def read_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # EXIF is foreign data in a foreign format; a picture is not lost for it
        return 1


def split_alpha(image: Image.Image, depth: int) -> tuple[Image.Image, np.ndarray | None]:
    """The image without alpha, and its alpha in whichever way the file had it."""
    clear = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        return image, np.where(np.asarray(image) == clear, 0, 255).astype(np.uint8) if isinstance(clear, int) else None
    if not image.has_transparency_data:
        return image, None
    if image.mode == "RGB" and depth == 16 and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)  # the colour as Pillow cuts the pixels
    both = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
    return both.convert(both.mode[:-1]), np.array(both.getchannel("A"))


def to_grey(path: Path, image: Image.Image, depth: int) -> np.ndarray:
    if image.mode == "F" or depth > 16:
        kind = "fractional" if image.mode == "F" else f"{depth}-bit"
        raise ImageError(f"{path} has {kind} pixels, whose range is not known", hint="save it with 8 or 16 bits a channel")
    return np.asarray(image).astype(np.float32) / (2**depth - 1)


def to_srgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, str]:
    """RGB in sRGB, and a note if that took a conversion. A picture whose profile is sRGB but for rounding is left as it is."""
    if not icc:
        return image.convert("RGB"), ""
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        mode = PROFILE_MODES[profile.profile.xcolor_space.strip()]  # type: ignore[union-attr]
        if image.mode not in FITTING[mode]:
            return image.convert("RGB"), f"ICC profile not used: it is for {mode}, the picture is {image.mode}"
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        source = image.convert(mode)
        if mode in ("RGB", "L"):
            probe = build_probe(mode)
            moved = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int) - np.asarray(probe.convert("RGB"))
            if np.abs(moved).max() <= 1:
                return source.convert("RGB"), ""
        converted = ImageCms.applyTransform(source, transform)
        assert converted is not None
        return converted, "ICC profile converted to sRGB"
    except (ImageCms.PyCMSError, OSError, KeyError):
        return image.convert("RGB"), "ICC profile not used: it cannot be read"


def build_probe(mode: str) -> Image.Image:
    """All greys, or colours on a grid of 17 levels."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(17, -1, 3))
