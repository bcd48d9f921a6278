"""The pictures on which autoencoders are compared: drawn by the package, and any that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..codec.pixels import read_picture

SCENES, TEXTURES, SIZE = 8, 24, 64


def draw_references(seed: int = 0) -> list[Float[Tensor, "1 3 h w"]]:
    """Rendered scenes and textures with the statistics of photographs, 64x64."""
    from ..data.scenes import draw_scene, render  # which few runs need
    from ..data.textures import render_textures

    scenes = render([draw_scene(90_000 + seed, number) for number in range(SCENES)], SIZE).image
    textures = render_textures(90_000 + seed, range(TEXTURES), SIZE)
    return [one[None] for one in (*scenes, *textures)]


def read_references(paths: Sequence[Path], seed: int = 0) -> list[Float[Tensor, "1 3 h w"]]:
    """The user's pictures behind those of the package. Raises ImageError."""
    return [*draw_references(seed), *(read_picture(path).image for path in paths)]


def crop_to_multiple(image: Float[Tensor, "1 3 h w"], side: int) -> Float[Tensor, "1 3 h2 w2"]:
    """Without the rows and columns that padding would have to fill."""
    height, width = (max(size // side * side, 1) for size in image.shape[-2:])
    return torch.narrow(torch.narrow(image, -2, 0, height), -1, 0, width)
