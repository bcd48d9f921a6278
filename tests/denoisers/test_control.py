"""ControlNets: public names and counts in both layouts, and what makes them cheap."""

from __future__ import annotations

from math import prod

import pytest

from controlfiles import to_shapes
from eightfold.checkpoints.rename import to_names, to_original_names
from eightfold.families.catalog import KNOWN_CONTROLS
from eightfold.families.keymaps.control import SD_CONTROL
from eightfold.families.sd1 import SD1
from eightfold.families.sd2 import SD2
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.specs.control import ControlConfig
from layouts import Shapes, read_layout

STEM = {0: "conv_in", **{2 * number + 2: f"blocks.{number}" for number in range(6)}, 14: "conv_out"}
# tensors and numbers of the public files: lllyasviel/control_v11p_sd15_canny, diffusers/controlnet-canny-sdxl-1.0
COUNTS = {"sd1": (340, 361_279_120), "sdxl": (844, 1_251_014_160)}
families = pytest.mark.parametrize("family", [SD1, SD2, SDXL_FAMILY], ids=lambda family: family.name)


def to_original_layout(family) -> Shapes:
    """The public U-Net's way down in the original layout, and beside it what cldm.py adds."""
    unet = read_layout(f"{family.name}_denoiser.original")
    down = {name: shape for name, shape in unet.items() if name.startswith(("time_embed.", "label_emb.", "input_blocks.", "middle_block."))}
    ours = to_shapes(family)
    added = {f"input_hint_block.{place}": f"controlnet_cond_embedding.{name}" for place, name in STEM.items()}
    added |= {f"zero_convs.{number}.0": f"controlnet_down_blocks.{number}" for number in range(12 if family.name != "sdxl" else 9)}
    added["middle_block_out.0"] = "controlnet_mid_block"
    return down | {f"{one}.{part}": ours[f"{name}.{part}"] for one, name in added.items() for part in ("weight", "bias")}


@pytest.mark.parametrize("family", [SD1, SDXL_FAMILY], ids=lambda family: family.name)
def test_as_many_as_in_the_public_files(family) -> None:
    shapes = to_shapes(family)
    assert (len(shapes), sum(map(prod, shapes.values()))) == COUNTS[family.name]


@families
def test_both_layouts(family) -> None:
    ours, original = to_shapes(family), to_original_layout(family)
    assert to_names(original, SD_CONTROL) == ours
    assert to_original_names(ours, SD_CONTROL) == original
    assert to_names(ours, SD_CONTROL) == ours
    assert to_original_names(original, SD_CONTROL) == original


def test_the_stem_in_both_layouts() -> None:
    for place, name in STEM.items():
        original, ours = {f"input_hint_block.{place}.bias": (1,)}, {f"controlnet_cond_embedding.{name}.bias": (1,)}
        assert to_names(original, SD_CONTROL) == ours
        assert to_original_names(ours, SD_CONTROL) == original


def test_the_stem_ends_in_the_size_of_a_latent() -> None:
    for control in KNOWN_CONTROLS:
        assert ControlConfig(unet=control.family.denoiser).downscale == control.family.space.latent_downscale
