"""How long prompts are, and what in them is not read as elsewhere."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from eightfold.cli.generate import show_lengths
from eightfold.families.pocket import POCKET_FAMILY
from eightfold.families.sd1 import SD1
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.prompts import measure_prompts, note_lengths, warn_of_prompts
from eightfold.pipelines.request import Request, to_plan
from eightfold.text.clipcondition import ClipConditioner
from toytowers import FIRST, build_towers

LONG = "cat, " * 50


@pytest.fixture(scope="module")
def text() -> ClipConditioner:
    return ClipConditioner(text=FIRST, towers=build_towers(FIRST))


def test_lengths(text: ClipConditioner, model: Model) -> None:
    plan = to_plan(Request(prompt=LONG, negative="a dog"), SD1)
    lengths = measure_prompts(plan, text)
    assert {name: length.counts for name, length in lengths.items()} == {"prompt": (75, 25), "negative": (2,)}
    assert lengths["prompt"].tokens == text.count_tokens(LONG) == 100
    assert note_lengths(plan, text) == ("the prompt has 100 tokens in 2 chunks of 75 (75, 25)",)
    assert note_lengths(Request(prompt="a", negative=LONG), text)[0].startswith("the negative prompt has 100")
    assert [*measure_prompts(Request(prompt=""), text)] == ["prompt"] and note_lengths(Request(prompt=""), text) == ()
    words = measure_prompts(Request(prompt="a red zebra cube"), model.text)["prompt"]
    assert words.counts == (3,) and words.room == cast(Any, model.family.text).tokens - 1


def test_a_note_for_each_prompt_that_is_long(text: ClipConditioner, capsys: pytest.CaptureFixture[str]) -> None:
    model = cast(Model, SimpleNamespace(text=text))
    show_lengths(model, [Request(prompt="a cat"), Request(prompt=LONG), Request(prompt=LONG, seed=1), Request(prompt="a BREAK b")])
    assert capsys.readouterr().err.splitlines() == [
        "note: the prompt has 100 tokens in 2 chunks of 75 (75, 25)",
        "note: the prompt has 2 tokens in 2 chunks of 75 (1, 1)",
    ]


def test_what_is_read_otherwise_is_warned_of() -> None:
    plan = to_plan(Request(prompt="a cat AND a dog <lora:x:1>", negative="[a|b]"), SD1)
    warnings = warn_of_prompts(plan, SD1)
    assert [text.split(" is read as plain text: ")[0] for text in warnings] == [
        "the prompt: AND",
        "the prompt: <lora:x:1>",
        "the negative prompt: [a|b]",
    ]
    assert warn_of_prompts(plan, POCKET_FAMILY) == ()  # which knows its words and nothing else
    assert warn_of_prompts(replace(plan, prompt="a (red:1.2) cat BREAK a [dog]", negative=""), SD1) == ()
