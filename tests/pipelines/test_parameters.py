"""A1111's text under a picture, written and read."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eightfold.core.errors import ImageError
from eightfold.pipelines.parameters import from_parameters, to_pairs, to_parameters
from eightfold.pipelines.provenance import LONGEST, Lora
from foreigntexts import A1111, RECORD

WORDS = [
    "Negative prompt:",
    "Steps: 20, Sampler: Euler a, Seed: 1",
    "Prompt:",
    '"',
    "\\",
    ",",
    ":",
    "\n",
    "\r",
    " ",
    "\t",
    "a",
    "é",
    "\u2028",
    "",
    "\x00",
]
PROMPTS = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=8).map("".join))


@given(prompt=PROMPTS, negative=PROMPTS, model=PROMPTS)
@example(prompt="Steps: 1, Seed: 2, Size: 3x4", negative="", model="m")
@example(prompt="a\nNegative prompt: b", negative="c\nNegative prompt: d", model="a, b: c")
@example(prompt="a\n\n", negative="\n b ", model='"quoted"')
@example(prompt='Prompt: "x", Negative prompt: "y"', negative="", model="x\\")
def test_every_prompt_survives(prompt: str, negative: str, model: str) -> None:
    record = {**RECORD, "prompt": prompt, "negative": negative, "model": model}
    found = from_parameters(to_parameters(record))
    assert (found.prompt, found.negative) == (prompt, negative)
    assert found.model == (model if model.strip() else None)
    assert (found.steps, found.seed, found.size, found.guidance) == (20, 42, (512, 768), 7.5)
    assert (found.sampler, found.grid, found.noise_source) == ("DPM++ 2M", "Karras", "ours")


@given(guidance=st.floats(0, 1e4), seed=st.integers(0, 2**63 - 1), strength=st.floats(0.01, 1), steps=st.integers(1, 1000))
def test_numbers_survive_exactly(guidance: float, seed: int, strength: float, steps: int) -> None:
    found = from_parameters(
        to_parameters(
            {**RECORD, "guidance": guidance, "seed": seed, "strength": strength, "start": "x.png", "steps": steps, "clip_skip": 2}
        )
    )
    assert (found.guidance, found.seed, found.strength, found.steps, found.clip_skip) == (guidance, seed, strength, steps, 2)


def test_a_plain_prompt_is_written_plainly() -> None:
    expected = (
        "a red cube\nNegative prompt: text, blue\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 42, "
        "Size: 512x768, Model hash: 0123456789, Model: sd1, VAE hash: fedcba9876, RNG: CPU, Noise source: ours, Version: eightfold 0.1.0"
    )
    assert to_parameters({**RECORD, "negative": "text, blue"}) == expected


def test_noise_is_said_in_a1111_s_words_too() -> None:
    text = to_parameters({**RECORD, "noise_source": "a1111:gpu,ensd=31337", "eta": 0.5})
    assert "Eta: 0.5, ENSD: 31337, RNG: NV, " in text
    assert from_parameters(text).noise_source == "a1111:gpu,ensd=31337"
    assert "RNG: CPU, " in to_parameters({**RECORD, "noise_source": "a1111"})


def test_a_text_of_a1111() -> None:
    found = from_parameters(A1111)
    assert found.source == "a1111"
    assert found.prompt == "photo of a cat, (detailed fur:1.2), <lora:add_detail:0.6>\nsoft light"
    assert found.negative == "blurry, text,\nwatermark"
    assert (found.steps, found.sampler, found.grid, found.guidance, found.seed) == (28, "DPM++ 2M", "Karras", 6.5, 965400086)
    assert (found.size, found.strength, found.clip_skip) == ((512, 768), 0.4, 2)
    assert (found.model, found.model_hash) == ("v1-5-pruned-emaonly", "6ce0161689")
    assert (found.vae, found.vae_hash) == ("vae-ft-mse-840000-ema-pruned.safetensors", "735e4c3a44")
    assert found.loras == (Lora(name="add_detail", weight=0.6, short="7c6bad76eb54"),)
    assert found.noise_source == "a1111:gpu,ensd=31337"
    assert found.extra == {"Hires upscale": "2", "Lora hashes": "add_detail: 7c6bad76eb54, other: 1", "Version": "v1.9.4"}


@pytest.mark.parametrize(
    ("pair", "source"),
    [("RNG: CPU", "a1111"), ("RNG: NV", "a1111:gpu"), ("Tiling: True", "a1111:gpu"), ("RNG: CPU, ENSD: 5", "a1111:ensd=5")],
)
def test_where_the_noise_was_drawn(pair: str, source: str) -> None:
    assert from_parameters(f"x\nSteps: 1, Seed: 2, {pair}").noise_source == source


def test_lines_behind_the_settings_are_not_the_prompt() -> None:
    found = from_parameters("a cat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1\nTemplate: a {cat|dog}")
    assert (found.prompt, found.steps, found.seed) == ("a cat", 20, 1)


@pytest.mark.parametrize("text", ["", "a cat", "a cat\nSteps: 20", "\n" * 9, "Negative prompt: x", "a: b, c: d"])
def test_texts_without_settings(text: str) -> None:
    with pytest.raises(ImageError, match="without a line of settings") as caught:
        from_parameters(text)
    assert "Steps" in caught.value.hint


@given(st.one_of(st.text(), PROMPTS))
def test_any_text_is_read_or_refused(text: str) -> None:
    for tried in (text, f"{text}\nSteps: {text}, Seed: {text}, Size: {text}x{text}, CFG scale: {text}, Clip skip: {text}, ENSD: {text}"):
        try:
            from_parameters(tried)
        except ImageError as error:
            assert error.hint


def test_wrong_values_are_left_out() -> None:
    found = from_parameters("x\nSteps: many, Seed: -1, Size: 512, CFG scale: nan, Clip skip: 0, Denoising strength: 1e999, Sampler: ")
    assert (found.steps, found.seed, found.size, found.guidance, found.clip_skip, found.strength, found.sampler) == (None,) * 7


def test_nothing_is_no_value() -> None:
    """A1111 passes by what has none; quoted, nothing is a value."""
    assert to_pairs('A:, B: , C: "", D: x') == {"C": "", "D": "x"}


def test_open_quotes_end_at_a_comma() -> None:
    assert to_pairs('A: "b, C: "d", E: "f') == {"A": '"b', "C": "d", "E": '"f'}
    assert to_pairs('A: "b" c, D: e') == {"A": '"b" c', "D": "e"}


@pytest.mark.parametrize("part", ["a", "a:", 'a: "', 'a: "b", ', 'a: "\\', ", ", "Steps: 1\n", "<lora:a:", "Negative prompt:\n"])
def test_no_text_takes_long(part: str) -> None:
    """Half a million characters would take hours if time grew with their square."""
    with suppress(ImageError):
        from_parameters(part * (2**19 // len(part)))
    with pytest.raises(ImageError, match="longer than"):
        from_parameters("x" * (LONGEST + 1))
