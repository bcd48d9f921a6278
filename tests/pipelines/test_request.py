"""Requests, plans, sizes and seeds."""

from __future__ import annotations

import pytest

from eightfold.core.errors import RequestError
from eightfold.families.pocket import POCKET_FAMILY
from eightfold.families.sd1 import SD1
from eightfold.pipelines.request import Request, check_seed, to_plan, to_size, to_text


def test_the_family_fills_in_what_is_left_open() -> None:
    for family in (POCKET_FAMILY, SD1):
        plan, defaults = to_plan(Request(prompt="x"), family), family.defaults
        assert (plan.width, plan.height) == defaults.size
        assert (plan.steps, plan.sampler, plan.grid, plan.guidance) == (defaults.steps, defaults.sampler, defaults.grid, defaults.guidance)
        assert (plan.negative, plan.eta, plan.seed, plan.count) == ("", 0.0, 0, 1)


def test_what_is_asked_for_is_kept() -> None:
    request = Request(
        prompt="x", negative="y", size=(512, 768), steps=7, sampler="ddim", grid="uniform", guidance=0.0, eta=0.3, seed=9, count=4
    )
    plan = to_plan(request, SD1)
    assert (plan.prompt, plan.negative, plan.width, plan.height) == ("x", "y", 512, 768)
    assert (plan.steps, plan.sampler, plan.grid, plan.guidance, plan.eta) == (7, "ddim", "uniform", 0.0, 0.3)  # 0 is an answer
    assert (plan.seed, plan.count) == (9, 4)


@pytest.mark.parametrize("size", [(0, 64), (64, 0), (-8, 8), (16385, 8), (8, 16385)])
def test_impossible_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match=f"{size[0]}x{size[1]}") as caught:
        to_plan(Request(prompt="x", size=size), POCKET_FAMILY)
    assert "128x128" in caught.value.hint


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_impossible_counts(count: int) -> None:
    with pytest.raises(RequestError, match="count"):
        Request(prompt="x", count=count)


@pytest.mark.parametrize(("seed", "count"), [(-1, 1), (2**63, 1), (2**63 - 1, 2)])
def test_impossible_seeds(seed: int, count: int) -> None:
    with pytest.raises(RequestError, match="seed"):
        Request(prompt="x", seed=seed, count=count)
    with pytest.raises(RequestError, match="seed"):
        check_seed(seed, count)


def test_the_last_seeds_are_seeds() -> None:
    check_seed(2**63 - 1)
    assert Request(prompt="x", seed=2**63 - 2, count=2).seed == 2**63 - 2


@pytest.mark.parametrize(("text", "size"), [("512x768", (512, 768)), (" 7 X 9 ", (7, 9)), ("1\u00d72", (1, 2)), ("16384x1", (16384, 1))])
def test_sizes_are_width_by_height(text: str, size: tuple[int, int]) -> None:
    assert to_size(text) == size
    assert to_size(to_text(size)) == size


@pytest.mark.parametrize("text", ["", "512", "512x", "x512", "5 12x7", "-1x5", "1.5x2", "512*768", "1x2x3", "1234567x1"])
def test_other_texts_are_no_sizes(text: str) -> None:
    with pytest.raises(RequestError, match="WIDTHxHEIGHT"):
        to_size(text)
