"""ControlNets are known in both layouts, behind every prefix, and never taken for the denoiser whose way down they copy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from test_identity import prefixed, to_inventory

from controlfiles import build_toy, to_shapes
from eightfold.checkpoints.identity import Identity, identify_file, identify_inventory
from eightfold.checkpoints.kinds import CONTROLS, KINDS
from eightfold.checkpoints.rename import to_original_names
from eightfold.core.errors import RequestError
from eightfold.families.catalog import KNOWN_CONTROLS
from eightfold.families.keymaps.control import SD_CONTROL
from eightfold.families.sd1 import SD1
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.specs.family import Family
from layouts import read_layout
from toylayouts import convert

FAMILIES = [control.family for control in KNOWN_CONTROLS]
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
each_width = pytest.mark.parametrize("toy", [False, True], ids=["public", "toy"])


def check(identity: Identity, family: Family, layout: str) -> None:
    assert (identity.component, identity.family, identity.space) == ("control", family.name, family.space.name)
    assert (identity.variant, identity.layout, identity.ties, identity.nearest) == ("base", layout, (), None)


@each_family
@each_width
@pytest.mark.parametrize("prefix", ["", "control_model.", "controlnet/"])
def test_both_layouts(family: Family, toy: bool, prefix: str) -> None:
    ours = to_shapes(family, toy=toy)
    for shapes, layout in ((ours, "diffusers"), (to_original_names(ours, SD_CONTROL), "original")):
        (identity,) = identify_inventory(to_inventory(prefixed(prefix, shapes), dtype="F16"))
        check(identity, family, layout)


def test_beside_its_model() -> None:
    """As the first ones were published: with all of Stable Diffusion around."""
    shapes = prefixed("control_model.", to_original_names(to_shapes(SD1), SD_CONTROL))
    shapes |= prefixed("model.diffusion_model.", read_layout("sd1_denoiser.original")) | prefixed(
        "first_stage_model.", read_layout("sd_vae.original")
    )
    found = {one.component: one for one in identify_inventory(to_inventory(shapes))}
    assert {*found} == {"control", "denoiser", "autoencoder"}
    check(found["control"], SD1, "original")
    assert (found["denoiser"].family, found["denoiser"].layout) == ("sd1", "original")
    assert found["autoencoder"].space == "sd"


@pytest.mark.parametrize("change", [{"task_embedding": (6, 320)}, {"conv_in.weight": (320, 9, 3, 3)}], ids=["several kinds", "9 channels"])
@each_family
def test_another_kind_is_not_taken_for_one(family: Family, change: dict[str, tuple[int, ...]]) -> None:
    (identity,) = identify_inventory(to_inventory(to_shapes(family) | change))
    assert (identity.component, identity.family) == ("unknown", None)
    assert identity.nearest == f"control of {family.name} (base)"
    assert next(iter(change)) in identity.why_not[0]


def test_what_is_behind_the_prefix_is_no_denoiser() -> None:
    (identity,) = identify_inventory(to_inventory(prefixed("control_model.", read_layout("sd1_denoiser.original"))))
    assert (identity.component, identity.family) == ("control", None)


def test_there_is_one_a_family() -> None:
    assert [kind.family for kind in CONTROLS] == [family.name for family in FAMILIES]
    assert {*CONTROLS} <= {*KINDS}


@pytest.mark.parametrize("family", [SD1, SDXL_FAMILY], ids=lambda family: family.name)
def test_a_file_goes_to_the_other_layout_and_back(family: Family, tmp_path: Path) -> None:
    ours, there, back = (tmp_path / f"{name}.safetensors" for name in ("ours", "there", "back"))
    save_file(build_toy(family), ours)
    convert(ours, there, layout="original")
    (identity,) = identify_file(there)
    check(identity, family, "original")
    convert(there, back, layout="diffusers")
    before, after = load_file(ours), load_file(back)
    assert before.keys() == after.keys() and all(tensor.equal(after[name]) for name, tensor in before.items())
    with pytest.raises(RequestError, match="component"):
        convert(there, tmp_path / "none.safetensors", component="denoiser")


def test_a_folder(tmp_path: Path) -> None:
    """As diffusers saves one, alone and inside a model."""
    for folder in (tmp_path / "alone", tmp_path / "model" / "controlnet"):
        folder.mkdir(parents=True)
        save_file(build_toy(SD1), folder / "diffusion_pytorch_model.safetensors")
        (folder / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel"}))
    (tmp_path / "model" / "model_index.json").write_text(json.dumps({"controlnet": ["diffusers", "ControlNetModel"]}))
    for folder in ("alone", "model"):
        (identity,) = identify_file(tmp_path / folder)
        check(identity, SD1, "diffusers")
