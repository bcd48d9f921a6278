"""The notation of prompts: what it means, and that it can be written again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.text.prompt import LARGEST, ROUND, SQUARE, Span, format_prompt, is_plain, parse_prompt

PIECES = st.sampled_from(
    [
        "(",
        ")",
        "[",
        "]",
        "\\",
        ":",
        "BREAK",
        "BR",
        "EAK",
        " ",
        "\n",
        ":1.2)",
        ":-.5)",
        ": 3 )",
        ":0)",
        ":9e9)",
        "cat",
        ",",
        ".5",
        "K:1)",
        "é",
    ]
)
PROMPTS = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=25).map("".join))
WEIGHTS = st.floats(-LARGEST, LARGEST)


def to_pairs(prompt):
    """Of a prompt without BREAK."""
    (section,) = parse_prompt(prompt)
    return [tuple(span) for span in section]


@pytest.mark.parametrize(
    ("prompt", "pairs"),
    [
        ("", []),
        ("normal text", [("normal text", 1)]),
        ("an (important) word", [("an ", 1), ("important", ROUND), (" word", 1)]),
        ("(unbalanced", [("unbalanced", ROUND)]),
        ("[less", [("less", SQUARE)]),
        (r"\(literal\] \\ \n", [(r"(literal] \ \n", 1)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", ROUND)]),
        ("stray) and ] and :1.5) more", [("stray) and ] and :1.5) more", 1)]),
        ("(a:1.5) b", [("a", 1.5), (" b", 1)]),
        ("(a: 0.5 ) b", [("a", 0.5), (" b", 1)]),
        ("(a:-1)(b:.25)(c:2.)", [("a", -1), ("b", 0.25), ("c", 2)]),
        ("(a:b:2)", [("a:b", 2)]),
        ("(a:1e3)", [("a:1e3", ROUND)]),
        ("((a))", [("a", ROUND * ROUND)]),
        ("((a:2) b:3)", [("a", 6), (" b", 3)]),
        ("(a [b:1.3] c)", [("a ", ROUND), ("b:1.3", SQUARE * ROUND), (" c", ROUND)]),
        ("(a [b) c]", [("a ", ROUND), ("b", ROUND * SQUARE), (" c", SQUARE)]),
        ("()[] x", [(" x", 1)]),
    ],
)
def test_weights(prompt, pairs):
    assert to_pairs(prompt) == pairs


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("a BREAK b", [["a"], ["b"]]),
        ("a\n BREAK\tb BREAK", [["a"], ["b"], []]),
        ("BREAK", [[], []]),
        ("BREAKFAST or breaks, break", [["BREAKFAST or breaks, break"]]),
        ("(a BREAK b:2)", [["a"], ["b"]]),
        ("BR(EAK:1)", [["BREAK"]]),
    ],
)
def test_breaks(prompt, texts):
    assert [[span.text for span in section] for section in parse_prompt(prompt)] == texts


def test_a_weight_holds_across_a_break():
    assert parse_prompt("(a BREAK b:2) c") == ((Span("a", 2.0),), (Span("b", 2.0), Span(" c", 1.0)))


@given(text=st.text().filter(lambda text: not {*text} & {*"()[]\\"} and "BREAK" not in text))
def test_plain_text_passes_unchanged(text):
    assert to_pairs(text) == ([(text, 1)] if text else [])
    assert format_prompt(parse_prompt(text)) == text
    assert is_plain(parse_prompt(text))


@settings(max_examples=500)
@given(prompt=PROMPTS)
def test_any_text_can_be_read_and_written_again(prompt):
    sections = parse_prompt(prompt)
    assert sections
    for section in sections:
        assert all(span.text and abs(span.weight) <= LARGEST for span in section)
        assert all(one.weight != other.weight for one, other in pairwise(section))
    assert parse_prompt(format_prompt(sections)) == sections


@settings(max_examples=300)
@given(spans=st.lists(st.tuples(PROMPTS.filter(bool), WEIGHTS), max_size=5), sections=st.integers(1, 3))
def test_any_text_and_weight_can_be_written(spans, sections):
    distinct = [Span(*span) for place, span in enumerate(spans) if not place or span[1] != spans[place - 1][1]]
    wanted = (tuple(distinct),) * sections
    assert parse_prompt(format_prompt(wanted)) == wanted


def test_weights_stay_finite():
    assert to_pairs("((a:999999):999999)") == [("a", LARGEST)]
    assert to_pairs("((a:-999999):999999)") == [("a", -LARGEST)]
    assert to_pairs("(a:1000000)") == [("a:1000000", ROUND)]
    ((span,),) = parse_prompt("[" * 8000 + "a")
    assert 0 <= span.weight < 1e-300


def test_what_a_bracket_means():
    assert (ROUND, SQUARE) == (1.1, 1 / 1.1)


def test_is_plain():
    assert is_plain(parse_prompt("a BREAK b"))
    assert not is_plain(parse_prompt("a BREAK (b)"))
