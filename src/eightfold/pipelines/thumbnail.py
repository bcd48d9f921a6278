"""Pictures inside a page: small enough that a report of any number of them stays a file that browsers open."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST = 1024  # pixels along a side at most
EXACT = 2**18  # pixels up to which a picture is kept to the bit, if its share of the page allows
PAGE = 36 * 2**20  # characters that all pictures of a page may take together
SMALLEST = 32  # a side is not made smaller than this, whatever the share


def to_share(pictures: int) -> int:
    """How many bytes each of so many pictures may have; base64 makes 4 characters of 3."""
    return PAGE * 3 // 4 // max(pictures, 1)


def to_embedded(image: Float[Tensor, "1 3 h w"], share: int) -> str:
    """An image in [-1, 1] as the address of a picture that holds itself: WebP in base64, of at most `share` bytes.

    Exact where it is small and fits; otherwise compressed, and made smaller until it fits.
    """
    from ..codec.pixels import to_pil

    picture = to_pil(image)
    picture.thumbnail((LONGEST, LONGEST))
    encoded = encode(picture, lossless=True) if picture.width * picture.height <= EXACT else None
    if encoded is None or len(encoded) > share:
        encoded = encode(picture, quality=90)
    while len(encoded) > share and max(picture.size) > SMALLEST:
        side = max(SMALLEST, max(picture.size) * 3 // 4)
        picture.thumbnail((side, side))
        encoded = encode(picture, quality=90)
    return "data:image/webp;base64," + b64encode(encoded).decode()


def encode(picture: Image, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, "WEBP", **options)
    return file.getvalue()
