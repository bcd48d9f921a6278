"""Families: only data, each recognised by its own marks and by no other's, and true to the public layouts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from eightfold.autoencoders.build import build_autoencoder
from eightfold.checkpoints.identity import claim_all
from eightfold.checkpoints.kinds import KINDS
from eightfold.checkpoints.lookup import find_marks
from eightfold.denoisers.unet import UNet
from eightfold.diffusion.samplers import build_sampler
from eightfold.families import catalog
from eightfold.families.catalog import FAMILIES
from eightfold.families.pocket import POCKET_FAMILY
from eightfold.families.sd1 import SD1
from eightfold.families.sd2 import SD2
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.families.spaces import SD, SPACES
from eightfold.specs.space import Space
from eightfold.text.words import WordsEncoder
from layouts import read_layout

ONE, ALL = (lambda space: 1), (lambda space: space.latent_channels)
EXTRA = {"mask": ONE, "depth": ONE, "covered": ALL, "raw": ALL, "latent": ALL}  # channels
DATA_FILES = [path for path in Path(catalog.__file__).parent.glob("*.py") if path.stem != "__init__"]
STATEMENTS = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
BEHAVIOUR = (ast.Lambda, ast.IfExp, ast.comprehension, ast.NamedExpr, ast.BoolOp, ast.Compare, ast.JoinedStr)


def to_inventory(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def build_on_meta(one):
    with torch.device("meta"):
        return build_autoencoder(one.autoencoder) if isinstance(one, Space) else UNet(one.denoiser)


def count_weights(network):
    return sum(tensor.numel() for tensor in network.state_dict().values())


EDITIONS = [(family, edition.name) for family in FAMILIES for edition in family.editions]
LAYOUTS = {
    "sd1_denoiser": (SD1, "base"),
    "sd2_denoiser": (SD2, "base"),
    "sdxl_denoiser": (SDXL_FAMILY, "base"),
    "sdxl-refiner_denoiser": (SDXL_FAMILY, "refiner"),
}


@pytest.mark.parametrize(("family", "edition"), EDITIONS, ids=lambda one: getattr(one, "name", one))
def test_each_is_recognised_in_its_own_network(family, edition):
    claims = claim_all(to_inventory(build_on_meta(family.to_edition(edition))), "denoiser")
    assert [(one.kind.family, one.kind.variant) for one in claims] == [(family.name, edition)]


@pytest.mark.parametrize(("family", "edition"), EDITIONS, ids=lambda one: getattr(one, "name", one))
def test_no_mark_can_be_missed(family, edition):
    kind = next(one for one in KINDS if (one.family, one.variant) == (family.name, edition))
    marks = {mark.key: tuple(size or 1 for size in mark.shape) for mark in kind.marks if not mark.absent}
    assert find_marks(marks, kind) is not None
    for key in marks:
        assert find_marks({name: shape for name, shape in marks.items() if name != key}, kind) is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_networks_are_the_public_ones(layout):
    family, edition = LAYOUTS[layout]
    assert to_inventory(build_on_meta(family.to_edition(edition))) == read_layout(layout)


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
    for edition in family.editions:
        own = family.to_edition(edition.name)
        assert own.denoiser.channels == own.space.latent_channels + sum(EXTRA[one](own.space) for one in own.reads)
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
    data = ("catalog", "processes", "published", "spaces", "clip")
    assert all(f"from .{path.stem} import" in text for path in DATA_FILES if path.stem not in data)
