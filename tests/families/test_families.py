"""Families: only data, each recognised by its own marks and by no other's, and true to the public layouts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from eightfold.autoencoders.build import build_autoencoder
from eightfold.checkpoints.identify import find_claimants, fits, identify
from eightfold.denoisers.unet import UNet
from eightfold.diffusion.samplers import build_sampler
from eightfold.families import catalog
from eightfold.families.catalog import FAMILIES
from eightfold.families.pocket import POCKET_FAMILY
from eightfold.families.sd1 import SD1
from eightfold.families.spaces import SD, SPACES
from eightfold.text.words import WordsEncoder
from layouts import list_layouts, read_layout

DATA_FILES = [path for path in Path(catalog.__file__).parent.glob("*.py") if path.stem != "__init__"]
STATEMENTS = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
BEHAVIOUR = (ast.Lambda, ast.IfExp, ast.comprehension, ast.NamedExpr, ast.BoolOp, ast.Compare, ast.JoinedStr)
DENOISERS = [name for name in list_layouts() if name.endswith("_denoiser")]


def to_inventory(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def build_on_meta(one):
    with torch.device("meta"):
        return UNet(one.denoiser) if one in FAMILIES else build_autoencoder(one.autoencoder)


def count_weights(network):
    return sum(tensor.numel() for tensor in network.state_dict().values())


@pytest.mark.parametrize("one", FAMILIES, ids=lambda one: one.name)
def test_each_is_recognised_in_its_own_network(one):
    assert one.marks
    assert identify(to_inventory(build_on_meta(one)), FAMILIES, source="its own network") is one


@pytest.mark.parametrize("one", FAMILIES, ids=lambda one: one.name)
def test_each_claims_its_own_marks(one):
    marks = {mark.key: tuple(size or 1 for size in mark.shape) for mark in one.marks if not mark.absent}
    assert one in find_claimants(marks, FAMILIES)
    for key in marks:
        assert one not in find_claimants({name: shape for name, shape in marks.items() if name != key}, [one])


@pytest.mark.parametrize("layout", DENOISERS)
def test_the_public_denoisers(layout):
    assert (SD1 in find_claimants(read_layout(layout), FAMILIES)) == (layout == "sd1_denoiser")
    assert POCKET_FAMILY not in find_claimants(read_layout(layout), FAMILIES)


@pytest.mark.parametrize(("one", "layout"), [(SD1, "sd1_denoiser")])
def test_marks_are_in_the_public_layout(one, layout):
    for mark in one.marks:
        assert fits(mark, read_layout(layout)), mark


def test_names_are_unique():
    names = [one.name for one in FAMILIES]
    assert len(set(names)) == len(names)
    assert all(family.space in SPACES for family in FAMILIES)


def test_stable_diffusion():
    assert (SD1.prediction, SD1.space) == ("noise", SD)
    assert (SD1.process.first, SD1.process.last, SD1.process.steps) == (0.00085, 0.012, 1000)
    assert SD1.process.table[-1] == pytest.approx(14.6146, abs=1e-4)  # the noise level where its sampling begins
    assert count_weights(build_on_meta(SD1)) == 859_520_964


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_parts_of_a_family_fit_together(family):
    assert family.denoiser.channels == family.denoiser.out_channels == family.space.latent_channels
    assert family.text is None or family.text.width == family.denoiser.context
    assert all(side % (family.space.downscale * 2 ** (len(family.denoiser.multipliers) - 1)) == 0 for side in family.defaults.size)
    build_sampler(family.defaults.sampler)


def test_the_pocket_model_is_small():
    with torch.device("meta"):
        text = WordsEncoder(POCKET_FAMILY.text)
    numbers = count_weights(build_on_meta(POCKET_FAMILY.space)) + count_weights(build_on_meta(POCKET_FAMILY)) + count_weights(text)
    assert 2 * numbers < 20e6  # bytes in float16


@pytest.mark.parametrize("path", DATA_FILES, ids=lambda path: path.stem)
def test_family_files_hold_only_data(path):
    body = ast.parse(path.read_text()).body
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant)
    assert all(isinstance(statement, STATEMENTS) for statement in body[1:])
    assert not [node for statement in body for node in ast.walk(statement) if isinstance(node, BEHAVIOUR)]


def test_every_family_file_is_in_the_catalog():
    text = Path(catalog.__file__).read_text()
    assert all(f"from .{path.stem} import" in text for path in DATA_FILES if path.stem not in ("catalog", "spaces"))
