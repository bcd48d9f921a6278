"""Prompts cut into chunks: nothing is lost, phrases stay whole, inversions too."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.core.errors import WeightMismatch
from eightfold.specs.text import ClipConfig, ClipReading, ClipText
from eightfold.text.chunks import REACH, Item, cut_chunks, to_chunks
from eightfold.text.inversion import Dictionary, Inversion, check_inversion
from eightfold.text.prompt import parse_prompt
from eightfold.text.tokenizer import read_tokenizer

COMMA = read_tokenizer().comma
NOTHING = Dictionary(())
TOY = ClipConfig(name="toy", width=8, layers=1, heads=2, activation="gelu", padding=0)
TEXT = ClipText(readings=(ClipReading(tower=TOY, depth=1, norm=True),))


def build_word(*names, count=3, widths=(8,)):
    return Inversion(names=names, vectors={width: torch.zeros(count, width) for width in widths}, source="x.pt")


def split(prompt, *words, room=75):
    return to_chunks(parse_prompt(prompt), read_tokenizer(), Dictionary(words), room)


def to_lengths(prompt, *words, room=75):
    return [len(chunk) for chunk in split(prompt, *words, room=room)]


def to_groups(*sizes):
    """Groups of so many tokens; 0 is a comma."""
    return [[Item(COMMA, 1.0)] if size == 0 else [Item(7 + row, 1.0, None, row) for row in range(size)] for size in sizes]


@pytest.mark.parametrize(
    ("prompt", "lengths"),
    [
        ("", [0]),
        ("cat", [1]),
        ("cat " * 75, [75]),
        ("cat " * 76, [75, 1]),
        ("cat " * 151, [75, 75, 1]),
        ("cat BREAK dog", [1, 1]),
        ("cat BREAK", [1]),
        ("BREAK cat", [0, 1]),
        ("cat BREAK BREAK dog", [1, 0, 1]),
        ("cat " * 75 + "BREAK dog", [75, 1]),
        ("cat " * 60 + ", " + "dog " * 20, [61, 20]),  # the comma is 14 tokens before the end of the chunk: the dogs stay together
        ("cat " * 50 + ", " + "dog " * 30, [75, 6]),  # here it is 24 before
        ("cat " * 75 + ", dog", [75, 2]),
        ("cat " * 74 + ", dog", [75, 1]),
    ],
)
def test_lengths(prompt, lengths):
    assert to_lengths(prompt) == lengths


def test_the_reach_of_a_comma():
    for behind, lengths in ((REACH - 1, [75 - REACH + 1, REACH]), (REACH, [75, 1])):
        groups = to_groups(*[1] * (75 - behind - 1), 0, *[1] * behind, 1)
        assert [len(chunk) for chunk in cut_chunks(groups, 75, COMMA)] == lengths, behind


@settings(max_examples=300)
@given(sizes=st.lists(st.integers(0, 6), max_size=60), room=st.integers(6, 20))
def test_nothing_is_lost_and_nothing_too_long(sizes, room):
    groups = to_groups(*sizes)
    chunks = cut_chunks(groups, room, COMMA)
    assert [item for chunk in chunks for item in chunk] == [item for group in groups for item in group]
    assert all(0 < len(chunk) <= room for chunk in chunks)
    ends = {sum(len(chunk) for chunk in chunks[:number]) for number in range(len(chunks))}
    starts = {sum(len(group) for group in groups[:number]) for number in range(len(groups))}
    assert ends <= starts | {0}  # no group is torn


def test_weights_go_with_their_tokens():
    (chunk,) = split("a (cat:2) [dog]")
    assert [(item.weight, item.number) for item in chunk] == [(1.0, 320), (2.0, 2368), (1 / 1.1, 1929)]


def test_an_inversion_stands_for_its_vectors():
    word = build_word("my-cat", "<cat>", count=3)
    (chunk,) = split("a My-Cat, (<cat>:1.5)<cat> cat", word)
    assert [item.row for item in chunk if item.word is word] == [0, 1, 2] * 3
    assert [item.weight for item in chunk] == [1.0] * 5 + [1.5] * 3 + [1.0] * 4
    assert chunk[4].number == COMMA
    assert split("a embedding:my-cat b", word) == split("a my-cat b", word)


@pytest.mark.parametrize("prompt", ["cats", "concat", "cat_2", "2cat", "cat2", "ca t"])
def test_an_inversion_is_a_word_of_its_own(prompt):
    assert split(prompt, build_word("cat")) == split(prompt)


def test_the_longest_name_counts():
    short, long = build_word("cat", count=1), build_word("cat toy", count=2)
    (chunk,) = split("cat toy, cat", short, long)
    assert [item.word for item in chunk] == [long, long, None, short]


def test_a_name_may_hold_signs_of_patterns():
    word = build_word("c++ (x)", count=1)
    assert split(r"a c++ \(x\) b", word)[0][1].word is word


def test_an_inversion_is_not_torn():
    assert to_lengths("cat " * 73 + "zzz dog", build_word("zzz", count=3)) == [73, 4]
    assert to_lengths("zzz", build_word("zzz", count=75)) == [75]


def test_an_inversion_of_another_width_is_refused():
    check_inversion(build_word("cat"), TEXT)
    check_inversion(build_word("cat", widths=(8, 16)), TEXT)
    with pytest.raises(WeightMismatch, match=r"x\.pt: the word 'cat' has vectors of 4 and 16 numbers, this model reads 8") as caught:
        check_inversion(build_word("cat", widths=(16, 4)), TEXT)
    assert "made for this model" in caught.value.hint


@pytest.mark.parametrize("count", [0, 76])
def test_an_inversion_that_no_chunk_holds_is_refused(count):
    with pytest.raises(WeightMismatch, match=f"takes {count} tokens, a chunk of the prompt has 75"):
        check_inversion(build_word("cat", count=count), TEXT)
