"""A feature map as the kernels see it: one image, channels last, float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor, cat
from torch import from_numpy as to_tensor

from .moments import Moments
from .pool import build_buffer


@dataclass(kw_only=True)
class Plane:
    """`pixels` is a contiguous float32 array [rows, width, channels]: the rows from `first_row` on of an image of `height` rows.

    `moments` are those of the rows held, where the kernel that wrote them has gathered them.
    """

    pixels: np.ndarray
    height: int
    first_row: int = 0
    moments: Moments | None = None

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def channels(self) -> int:
        return self.pixels.shape[2]

    @property
    def rows(self) -> tuple[int, int]:
        """From which up to which row of the image."""
        return self.first_row, self.first_row + self.pixels.shape[0]

    def check_rows(self, first: int, last: int) -> None:
        """ValueError unless all rows of the image from `first` up to `last` are held; what lies outside of the image is not asked for."""
        (begin, end), first, last = self.rows, max(0, first), min(self.height, last)
        if first < begin or last > end:
            raise ValueError(f"the rows {first} to {last} are read, and the input holds {begin} to {end}")


def build_plane(height: int, width: int, channels: int, rows: tuple[int, int] | None = None) -> Plane:
    """An empty one: all rows of the image, or those from the first up to the second of `rows`."""
    begin, end = rows or (0, height)
    pixels = build_buffer((end - begin) * width * channels).reshape(end - begin, width, channels)
    return Plane(pixels=pixels, height=height, first_row=begin)


def to_planes(images: Float[Tensor, "b c h w"]) -> list[Plane]:
    """A copy of each image of a batch, without moments: everything here works on one image at a time."""
    _, channels, height, width = images.shape
    planes = [build_plane(height, width, channels) for _ in images]
    for plane, image in zip(planes, images, strict=True):
        to_tensor(plane.pixels).copy_(image.permute(1, 2, 0))
    return planes


def from_plane(plane: Plane, channels: int | None = None) -> Float[Tensor, "1 c h w"]:
    """A view of its pixels (or of the first `channels` of them) as torch has them; no copy, so that it changes with the plane."""
    return to_tensor(plane.pixels[..., :channels]).permute(2, 0, 1)[None]


def from_planes(planes: Sequence[Plane], channels: int | None = None) -> Float[Tensor, "b c h w"]:
    """A batch again: a copy."""
    return cat([from_plane(plane, channels) for plane in planes])
