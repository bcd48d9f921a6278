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


# widths of the networks; every size that is a multiple is a width, but for these, which come from what is fed in or taken out
WIDTHS = {
    **dict.fromkeys(("sd1", "sd2", "sdxl"), 320),
    "sdxl-refiner": 384,
    **dict.fromkeys(("pixart-alpha", "pixart-alpha-512", "pixart-sigma", "pixelflow-c2i", "pixelflow-t2i"), 1152),
    **dict.fromkeys(("sd3-medium", "sd3.5-medium"), 1536),
    "sd3.5-large": 2432,
    **dict.fromkeys(("flux1-dev", "flux1-schnell", "qwen-image", "flux2-klein-4b"), 3072),
    **dict.fromkeys(("chroma", "chroma-radiance"), 1024),
    "flux2-dev": 6144,
    "flux2-klein-9b": 4096,
    "lumina2": 768,
    **dict.fromkeys(("hunyuan-image-2.1", "hunyuan-image-2.1-distilled"), 3584),
    "hunyuan-image-2.1-refiner": 3328,
}
FIXED = ("caption_embedder", "cap_embedder", "context_embedder", "txt_in", "bn.running", "encoder.conv_out")


@cache
def narrow(layout: str) -> Shapes:
    """The layout of the same network with fewer channels everywhere."""
    name, _, component = layout.removesuffix(".original").rpartition("_")
    width = WIDTHS[name] if component == "denoiser" else 96 if name == "qwen-image" else 128

    def shrink(key: str, axis: int, size: int) -> int:
        fixed = any(part in key for part in FIXED) and axis == (0 if "encoder.conv_out" in key or "bn." in key else 1)
        return size if fixed or size % width else size // width * 8

    return {key: tuple(shrink(key, axis, size) for axis, size in enumerate(shape)) for key, shape in read_layout(layout).items()}
