"""What other programs would read otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightfold.text.foreign import LONGEST, find_foreign


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("a [cat:dog:0.5] and [cat::10] or [:dog: .5 ]", ["[cat:dog:0.5]", "[cat::10]", "[:dog: .5 ]"]),
        ("[cat|dog|cow] on <lora:thing:0.8><hypernet:x:1>", ["[cat|dog|cow]", "<lora:thing:0.8>", "<hypernet:x:1>"]),
        ("a cat AND a dog AND a cow", ["AND"]),
        ("a {cat|dog} in {silver}", ["{cat|dog}", "{silver}"]),
        ("__animals/small__ in __place__", ["__animals/small__", "__place__"]),
        ("a (cat)1.3, (dog)++ (cow)-", [")1.3", ")++", ")-"]),
        ('("a cat", "a dog").blend(1, 1)', [").blend("]),
        (r"[cat], [[cat, dog]], (cat:1.2), <cat>, \[a:b:1\], a|b, [a:b], SAND and", []),
        ("C++, snake_case__, a (cat)-like dog, (cat) - dog, f(x).y, {}, (a)2, (cat).", []),
        ("[" * 20_000 + ":" * 20_000 + "{" * 20_000 + "_" * 20_000 + ")" * 20_000 + "+" * 20_000 + "x", []),
    ],
)
def test_what_other_programs_would_read_otherwise(prompt: str, found: list[str]) -> None:
    assert [one.text for one in find_foreign(prompt)] == found


def test_each_says_what_to_do_instead() -> None:
    texts = [str(one) for one in find_foreign("<lora:thing:0.8> <lyco:x> [a:b:1] a AND b {c|d} __e__ (f)1.5")]
    expected = ("--lora FILE:WEIGHT", "--lora FILE:WEIGHT", "one prompt", "BREAK", "--prompts FILE", "--prompts FILE", "(word:1.3)")
    assert len(texts) == len(expected)
    assert all(word in text and " is read as plain text: " in text for word, text in zip(expected, texts, strict=True))


def test_a_long_one_is_shortened() -> None:
    (one,) = find_foreign(f"<lora:{'x' * 500}:1>")
    assert len(one.text) > 500 and str(one).startswith(one.text[:LONGEST] + "... is read")


@given(st.text(alphabet="[]{}()<>:|_.+-0a AND\\", max_size=60))
def test_any_text_can_be_looked_at(prompt: str) -> None:
    assert all(one.text in prompt and one.advice for one in find_foreign(prompt))
