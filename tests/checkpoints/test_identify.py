"""Who owns these weights: one answer, a question, or nobody; never a guess."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.checkpoints.identify import find_claimants, fits, identify
from eightfold.core.errors import AmbiguousCheckpoint, UnknownCheckpoint
from eightfold.specs.mark import Mark


@dataclass(frozen=True)
class Kind:
    name: str
    marks: tuple[Mark, ...]


NARROW = Kind("narrow", (Mark("in.weight", (8, 4)), Mark("extra", absent=True)))
WIDE = Kind("wide", (Mark("in.weight", (16, None)),))
TWIN = Kind("twin", (Mark("in.weight", (16, 4)), Mark("out.weight")))
KNOWN = (NARROW, WIDE, TWIN)


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        (Mark("a", (2, 3)), True),
        (Mark("a", (2, 4)), False),
        (Mark("a", (2,)), False),
        (Mark("a", (2, 3, 1)), False),
        (Mark("a", (None, 3)), True),
        (Mark("a", (None, 2)), False),
        (Mark("a", (None, None, None)), False),
        (Mark("a"), True),
        (Mark("b"), False),
        (Mark("b", (2, 3)), False),
        (Mark("b", absent=True), True),
        (Mark("a", absent=True), False),
    ],
)
def test_a_mark(mark, expected):
    assert fits(mark, {"a": (2, 3), "number": ()}) is expected


def test_a_tensor_without_axes_is_there_too():
    assert fits(Mark("number"), {"number": ()})
    assert not fits(Mark("number", absent=True), {"number": ()})
    assert not fits(Mark("number", (None,)), {"number": ()})


@pytest.mark.parametrize(
    ("inventory", "expected"),
    [
        ({"in.weight": (8, 4)}, NARROW),
        ({"in.weight": (8, 4), "more": (1,)}, NARROW),
        ({"in.weight": (16, 4)}, WIDE),
        ({"in.weight": (16, 5), "out.weight": (3,)}, WIDE),
    ],
)
def test_the_only_claimant_is_the_answer(inventory, expected):
    assert identify(inventory, KNOWN, source="file") is expected
    assert identify(inventory, iter(KNOWN), source="file", declared=expected.name) is expected


@pytest.mark.parametrize("inventory", [{}, {"other": (1,)}, {"in.weight": (9, 4)}, {"in.weight": (8, 4), "extra": (1,)}])
def test_unknown_weights_are_refused(inventory):
    with pytest.raises(UnknownCheckpoint, match=r"some\.file has the tensors of no known model; known: narrow, wide, twin") as caught:
        identify(inventory, KNOWN, source="some.file")
    assert caught.value.hint


TIE = {"in.weight": (16, 4), "out.weight": (1,)}


def test_a_tie_is_a_question():
    assert find_claimants(TIE, KNOWN) == [WIDE, TWIN]
    with pytest.raises(AmbiguousCheckpoint, match=r"some\.file is claimed by wide, twin") as caught:
        identify(TIE, KNOWN, source="some.file")
    assert caught.value.hint


@pytest.mark.parametrize("one", [WIDE, TWIN], ids=lambda one: one.name)
def test_the_metadata_decide_a_tie(one):
    assert identify(TIE, KNOWN, source="file", declared=one.name) is one


@pytest.mark.parametrize("declared", ["narrow", "nobody", ""])
def test_metadata_that_the_tensors_deny_are_not_believed(declared):
    with pytest.raises(UnknownCheckpoint, match=f"its metadata says '{declared}'"):
        identify({"in.weight": (16, 4)}, KNOWN, source="file", declared=declared)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(["in.weight", "out.weight", "extra"]), st.lists(st.sampled_from([4, 8, 16]), max_size=3).map(tuple)))
def test_the_answer_is_one_of_the_claimants_or_none(inventory):
    claimants = find_claimants(inventory, KNOWN)
    try:
        found = [identify(inventory, KNOWN, source="file")]
    except UnknownCheckpoint:
        found = []
    except AmbiguousCheckpoint:
        assert len(claimants) > 1
        return
    assert found == claimants
