"""How large the picture of a file is, from its header."""

from __future__ import annotations

from pathlib import Path

from ..codec.explain import Task
from ..codec.imageread import open_image, read_orientation
from ..codec.latentfile import read_latent

TURNED = range(5, 9)  # orientations of EXIF that exchange width and height


def read_size(task: Task, path: Path) -> tuple[int, int]:
    """Width and height of the picture that is encoded, or that a latent is decoded to. Raises ImageError, LatentError."""
    if task == "decode":
        latent = read_latent(path)
        return latent.width, latent.height
    with open_image(path) as image:
        return (image.height, image.width) if read_orientation(image) in TURNED else (image.width, image.height)
