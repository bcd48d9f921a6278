"""Whose autoencoder is it, where spaces share their tensors: by what the file declares, by what is asked, else a question."""

from __future__ import annotations

import pytest

from eightfold.checkpoints.candidates import CANDIDATES, WEIGHTLESS, find_candidates, find_space, identify_autoencoder
from eightfold.core.errors import AmbiguousCheckpoint, SpaceMismatch, UnknownCheckpoint, UnknownName
from layouts import read_layout

KNOWN = "pocket, sd, sdxl, sd3, flux1, qwen, flux2, hunyuan, hunyuan-refiner"
FOUR, SIXTEEN, QWEN = read_layout("sd1_vae"), read_layout("flux1_vae.original"), read_layout("qwen-image_vae.original")


@pytest.mark.parametrize(("inventory", "names"), [(FOUR, "sd, sdxl"), (SIXTEEN, "sd3, flux1")])
def test_a_tie_is_a_question_that_says_how_to_answer(inventory, names):
    with pytest.raises(AmbiguousCheckpoint, match=f"vae is claimed by {names}") as caught:
        identify_autoencoder(inventory, source="vae")
    assert "--space" in caught.value.hint


@pytest.mark.parametrize(("inventory", "name"), [(FOUR, "sd"), (FOUR, "sdxl"), (SIXTEEN, "sd3"), (SIXTEEN, "flux1"), (QWEN, "qwen")])
def test_one_of_a_tie(inventory, name):
    assert identify_autoencoder(inventory, source="vae", space=name).name == name
    assert identify_autoencoder(inventory, source="vae", declared=name).name == name
    assert identify_autoencoder(inventory, source="vae", declared=name, space=name).name == name


@pytest.mark.parametrize(
    ("inventory", "space", "found"), [(FOUR, "flux1", "sd or sdxl"), (QWEN, "sd", "qwen"), (FOUR, "pixels", "sd or sdxl")]
)
def test_a_space_that_it_cannot_be(inventory, space, found):
    with pytest.raises(SpaceMismatch, match=f"vae is an autoencoder of space {found}, expected space {space}") as caught:
        identify_autoencoder(inventory, source="vae", space=space)
    assert space in caught.value.hint


def test_what_the_file_declares_is_not_overruled():
    with pytest.raises(SpaceMismatch, match="space sdxl, expected space sd"):
        identify_autoencoder(FOUR, source="vae", declared="sdxl", space="sd")
    with pytest.raises(UnknownCheckpoint, match="its metadata says 'qwen'"):
        identify_autoencoder(FOUR, source="vae", declared="qwen")


@pytest.mark.parametrize("space", [None, "sd"])
def test_tensors_that_nobody_knows(space):
    with pytest.raises(UnknownCheckpoint, match=f"no known model; known: {KNOWN}$"):
        identify_autoencoder({"weight": (3,)}, source="vae", space=space)


def test_a_space_that_does_not_exist():
    with pytest.raises(UnknownName, match="unknown space 'sd15'") as caught:
        identify_autoencoder(FOUR, source="vae", space="sd15")
    assert "sd" in caught.value.hint
    assert find_space("flux2").name == "flux2"


def test_tensors_that_break_a_keymap_s_rows_are_merely_somebody_else_s():
    assert find_candidates({"decoder.mid.attn_1.q.weight": (8, 8, 3, 3), "weight": ()}) == []


def test_those_without_weights_are_known_by_name_alone():
    assert list(WEIGHTLESS) == ["pixels"] and "pixels" not in {one.name for one in CANDIDATES}
