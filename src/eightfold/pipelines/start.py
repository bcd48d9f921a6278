"""What a picture begins from: another one, wholly or where a mask allows it, with room added around it, or a part of it enlarged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, sqrt
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..codec.padding import reflect
from ..codec.pixels import Picture, read_picture
from ..core.errors import RequestError
from .request import LARGEST, Request, to_text

Given = str | Path | Picture
AROUND = 32  # pixels around what is masked that are shown to the network, where only that part is drawn


class Box(NamedTuple):
    """A part of a picture, in pixels: from `left` and `top` up to `right` and `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def cut(self, image: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 c h2 w2"]:
        return image[..., self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """`picture` is what is changed, room around it included, `mask` is 1 where it may be and 0 where it must stay (None: everywhere).

    The network is shown the `box` of it; a picture of that is width x height pixels.
    """

    picture: Picture
    mask: Float[Tensor, "1 1 h w"] | None
    box: Box
    width: int
    height: int

    def show(self, width: int, height: int) -> Float[Tensor, "1 3 h w"]:
        """The picture as the network is shown it."""
        return resize(self.box.cut(self.picture.image), width, height).clamp(-1, 1)

    def show_mask(self, width: int, height: int) -> Float[Tensor, "1 1 h w"] | None:
        return None if self.mask is None else resize(self.box.cut(self.mask), width, height).clamp(0, 1)

    def paste(self, drawn: Float[Tensor, "1 3 h w"], feather: int) -> Float[Tensor, "1 3 h2 w2"]:
        """The picture with what was drawn in its place: where the mask is 0 as it was, to the bit.

        Over `feather` pixels inside the mask the one goes over into the other.
        """
        if self.mask is None:
            return drawn
        whole = self.picture.image.clone()
        before = self.box.cut(whole)
        drawn = resize(drawn, self.box.width, self.box.height).clamp(-1, 1)
        share = self.box.cut(soften(self.mask, feather))
        before.copy_(torch.where(share > 0, share * drawn + (1 - share) * before, before))
        return whole


def soften(mask: Float[Tensor, "1 1 h w"], feather: int) -> Float[Tensor, "1 1 h w"]:
    """The mean of the mask and of itself shrunk by 1, 2, ... `feather` pixels: it stays 0 where it was."""
    total, shrunk = mask.clone(), mask
    for _ in range(feather):
        shrunk = -F.max_pool2d(-shrunk, 3, stride=1, padding=1)
        total += shrunk
    return total / (feather + 1)


def resize(image: Float[Tensor, "1 c h w"], width: int, height: int) -> Float[Tensor, "1 c h2 w2"]:
    if tuple(image.shape[-2:]) == (height, width):
        return image
    return F.interpolate(image, size=(height, width), mode="bicubic", antialias=True)


def read_start(request: Request, native: tuple[int, int], multiple: int) -> Start | None:
    """What the request begins from, read and measured; None where it begins from noise alone.

    `native` is the size that the model is at home at, `multiple` what sides of latent cells are. Raises ImageError, RequestError.
    """
    if request.start is None:
        refuse_without_start(request)
        return None
    picture = read(request.start)
    mask = None if request.mask is None else read_mask(request.mask, picture)
    if request.outpaint != (0, 0, 0, 0):
        picture, mask = add_room(picture, mask, request.outpaint)
    whole = Box(0, 0, picture.width, picture.height)
    if not request.only_masked:
        if mask is not None and request.size not in (None, (picture.width, picture.height)):
            what = f"size {to_text(request.size or native)} with a mask: the picture is {picture.width}x{picture.height}, and stays so"
            raise RequestError(what, hint="leave --size out, or --only-masked to draw that part at another size")
        width, height = request.size or (picture.width, picture.height)
        return Start(picture=picture, mask=mask, box=whole, width=width, height=height)
    if mask is None:
        raise RequestError("only what is masked is to be drawn, and there is no mask", hint="--mask FILE, white where it is to draw")
    box = find_box(mask, AROUND)
    width, height = request.size or fit(box, native, multiple)
    return Start(picture=picture, mask=mask, box=box, width=width, height=height)


def refuse_without_start(request: Request) -> None:
    asked = [
        name
        for name, is_asked in (
            ("a mask", request.mask is not None),
            ("a strength", request.strength is not None),
            ("outpainting", request.outpaint != (0, 0, 0, 0)),
            ("only what is masked", request.only_masked),
            ("a feather", request.feather > 0),
        )
        if is_asked
    ]
    if asked:
        raise RequestError(f"{asked[0]} was asked for, and there is no picture to begin from", hint="--start IMAGE")


def read(given: Given) -> Picture:
    return given if isinstance(given, Picture) else read_picture(given)


def read_mask(given: Given, picture: Picture) -> Float[Tensor, "1 1 h w"]:
    """Its brightness: white is 1. Raises RequestError where its size is another than the picture's."""
    mask = read(given)
    if (mask.width, mask.height) != (picture.width, picture.height):
        what = f"the mask is {mask.width}x{mask.height}, the picture {picture.width}x{picture.height}"
        raise RequestError(what, hint="a mask has the picture's size: white where it is to draw, black where all stays")
    found = (mask.image.mean(dim=1, keepdim=True) + 1) / 2
    if not bool((found > 0).any()):
        raise RequestError("the mask is black everywhere: nothing would be drawn", hint="white is where it is to draw")
    return found


def add_room(picture: Picture, mask: Tensor | None, room: tuple[int, int, int, int]) -> tuple[Picture, Float[Tensor, "1 1 h w"]]:
    """`room` pixels more on the left, top, right and bottom, mirrored for a start, which are to be drawn."""
    left, top, right, bottom = room
    width, height = picture.width + left + right, picture.height + top + bottom
    if min(room) < 0 or max(width, height) > LARGEST:
        hint = f"four numbers of 0 or more: left, top, right, bottom; at most {LARGEST} pixels a side in all"
        raise RequestError(f"outpaint {','.join(map(str, room))}: a picture of {width}x{height}", hint=hint)
    columns = mirror(picture.width, left, right)
    rows = mirror(picture.height, top, bottom)
    new = torch.ones(1, 1, height, width)
    inner = Box(left, top, left + picture.width, top + picture.height).cut(new)
    inner.copy_(torch.zeros_like(inner) if mask is None else mask)
    alpha = picture.alpha
    if alpha is not None:
        alpha = F.pad(alpha, (left, right, top, bottom), value=1.0)
    return replace(picture, image=picture.image[..., rows, :][..., columns], alpha=alpha), new


def mirror(size: int, before: int, after: int) -> Tensor:
    """Places of a line of `size` with so many more in front and behind, mirrored at its ends."""
    return torch.cat([reflect(size, before + 1)[1:].flip(0), reflect(size, size + after)])


def find_box(mask: Float[Tensor, "1 1 h w"], around: int) -> Box:
    """What is masked and `around` pixels more, inside the picture."""
    height, width = mask.shape[-2:]
    rows, columns = (mask[0, 0] > 0).any(dim=1).nonzero(), (mask[0, 0] > 0).any(dim=0).nonzero()
    return Box(
        left=max(0, int(columns[0]) - around),
        top=max(0, int(rows[0]) - around),
        right=min(width, int(columns[-1]) + 1 + around),
        bottom=min(height, int(rows[-1]) + 1 + around),
    )


def fit(box: Box, native: tuple[int, int], multiple: int) -> tuple[int, int]:
    """A size of the box's shape and about as many pixels as the native one, both sides whole cells."""
    scale = sqrt(native[0] * native[1] / (box.width * box.height))
    width, height = (max(1, round(side * scale / multiple)) * multiple for side in (box.width, box.height))
    return width, height


def to_cells(mask: Float[Tensor, "1 1 h w"], downscale: int) -> Float[Tensor, "1 1 h2 w2"]:
    """The mask of a latent: a cell counts as the most of its pixels."""
    height, width = mask.shape[-2:]
    padded = F.pad(mask, (0, -width % downscale, 0, -height % downscale))
    return F.max_pool2d(padded, downscale)


def count_moves(steps: int, strength: float) -> int:
    """How many of a grid's last moves are made. Raises RequestError for none."""
    if not 0 < strength <= 1:
        raise RequestError(f"strength {strength}: expected more than 0, up to 1", hint="0.3 keeps most of the picture, 0.8 little")
    moves = int(steps * strength + 1e-9)
    if moves < 1:
        hint = f"--steps {ceil(1 / strength)} or a larger strength"
        raise RequestError(f"strength {strength} of {steps} steps is less than one step", hint=hint)
    return moves
