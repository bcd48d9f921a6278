"""Sides that an autoencoder cannot halve, made so by reflection, and cropped again."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .latentfile import Padding


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
