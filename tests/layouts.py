"""The published layouts of public models: every tensor's name and shape, and which name it has in the original file.

All of them are packed in one file beside this one. A layout's name is FAMILY_vae or FAMILY_denoiser for the diffusers layout;
with `.original` behind it, for the layout of the original single file.
"""

from __future__ import annotations

import json
import lzma
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

Shapes = dict[str, tuple[int, ...]]


@cache
def read_pack() -> dict[str, Any]:
    return json.loads(lzma.decompress((Path(__file__).parent / "layouts.json.xz").read_bytes()))


def list_layouts() -> list[str]:
    return sorted(read_pack()["layouts"])


@cache
def read_layout(name: str) -> Shapes:
    return {key: tuple(shape) for key, shape in read_pack()["layouts"][name].items()}


def read_keymap(name: str) -> dict[str, Any]:
    """`map`: diffusers name -> original name, or a list of [original name, first row, last row + 1] to be put together along axis 0.

    A 1x1 convolution on one side may be a linear map on the other. `unused_original`: names without a counterpart.
    """
    return read_pack()["keymaps"][name]


def count_numbers(shapes: Shapes) -> int:
    return sum(prod(shape) for shape in shapes.values())
