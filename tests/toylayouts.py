"""Public layouts at a toy width with tensors in them, and files of these converted."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eightfold.checkpoints.translate import Translation, read_translation, write_translation
from layouts import Shapes, narrow

NUMBERS = torch.randn(2**18, generator=torch.Generator().manual_seed(4)).bfloat16()


def draw(shape: tuple[int, ...], number: int) -> Tensor:
    """A toy tensor; all different, and as cheap as a view."""
    count = prod(shape)
    repeated = NUMBERS if count <= len(NUMBERS) // 2 else NUMBERS.repeat(2 * count // len(NUMBERS) + 1)
    start = number * 7919 % (len(repeated) - count + 1)
    return repeated[start : start + count].reshape(shape).clone()


def draw_all(shapes: Shapes) -> dict[str, Tensor]:
    return {name: draw(shape, number) for number, (name, shape) in enumerate(shapes.items())}


def convert(source: Path, out: Path, *, overwrite: bool = False, **options: Any) -> Translation:
    translation = read_translation(source, **options)
    *_, last = write_translation(translation, out, overwrite=overwrite)
    assert last.number == last.total == len(translation.tensors)
    return translation


def build_kl(prefix: str = "", *, layout: str = "sd_vae.original") -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in draw_all(narrow(layout)).items()}
