"""The match table: every space against every family."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightfold.checkpoints.identity import Identity
from eightfold.checkpoints.match import compare, compare_spaces, list_spaces
from eightfold.families.spaces import SPACES

# which autoencoder each family draws for, as its publishers say
BELONGS = {
    "pocket": "pocket",
    "sd1": "sd",
    "sd2": "sd",
    "pixart-alpha": "sd",
    "sdxl": "sdxl",
    "pixart-sigma": "sdxl",
    "sd3": "sd3",
    "flux1": "flux1",
    "lumina2": "flux1",
    "chroma": "flux1",
    "qwen-image": "qwen",
    "flux2": "flux2",
    "hunyuan-image": "hunyuan",
    "pixelflow": "pixels",
    "radiance": "pixels",
}
TWINS = {"sd": ("sd", "sdxl"), "sdxl": ("sd", "sdxl"), "sd3": ("sd3", "flux1"), "flux1": ("sd3", "flux1")}
NAMES = [space.name for space in SPACES]
PLAIN = Identity(component="autoencoder", dtype="float32", parameters=1)


def build_denoiser(family):
    return Identity(component="denoiser", family=family, space=BELONGS[family], dtype="float32", parameters=1)


def build_autoencoder(space, *, declared):
    ties = () if declared or space.name not in TWINS else TWINS[space.name]
    named = None if ties else space.name
    return replace(PLAIN, space=named, ties=ties, latent_channels=space.channels, downscale=space.downscale)


@pytest.mark.parametrize("family", BELONGS)
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_every_space_against_every_family(space, family):
    denoiser = build_denoiser(family)
    for declared in (True, False):
        autoencoder = build_autoencoder(space, declared=declared)
        verdict, said = compare(autoencoder, denoiser)
        if BELONGS[family] in list_spaces(autoencoder):
            assert verdict == ("assumed" if autoencoder.ties else "allowed")
        else:
            assert verdict == "refused" and BELONGS[family] in said and space.name in said
        assert compare(denoiser, autoencoder)[0] == verdict


def test_the_table_holds_every_family_but_the_refiner_stage():
    assert {*BELONGS.values()} == {*NAMES} - {"hunyuan-refiner"}
    tied = Identity(component="denoiser", ties=("pixart-alpha", "pixart-sigma"), dtype="float32", parameters=1)
    assert list_spaces(tied) == ("sd", "sdxl")
    assert list_spaces(Identity(component="denoiser", ties=("hunyuan-image",), dtype="", parameters=1)) == ("hunyuan", "hunyuan-refiner")


def test_unknown_is_assumed_unless_the_geometry_differs():
    unknown = replace(PLAIN, component="unknown")
    assert compare(unknown, build_denoiser("sd1"))[0] == "assumed"
    wide = replace(PLAIN, ties=("sd3", "flux1"), latent_channels=16, downscale=8)
    odd = replace(PLAIN, latent_channels=4, downscale=8)
    assert compare(wide, odd) == ("refused", "16 channels at 1/8 and 4 channels at 1/8")


@given(st.lists(st.sampled_from(NAMES), unique=True), st.lists(st.sampled_from(NAMES), unique=True))
def test_the_rule(first, second):
    verdict = compare_spaces(first, second)
    assert verdict == compare_spaces(second, first)
    assert (verdict == "refused") == (bool(first) and bool(second) and not {*first} & {*second})
    assert (verdict == "allowed") == (first == second and len(first) == 1)
