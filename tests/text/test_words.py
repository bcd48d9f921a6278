"""The pocket model's words: which it knows, what it says of others, and the encoder behind them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.core.errors import RequestError, UnknownWord
from eightfold.data.scenes import CAPTION_WORDS
from eightfold.families.pocket import POCKET_FAMILY, WORDS
from eightfold.specs.network import WordsConfig
from eightfold.text.words import BEGIN, PADDING, SPECIAL, Words, WordsEncoder, split_words
from weights import randomise

TOY = WordsConfig(words=("a", "red", "blue", "cube", "ball", "on"), width=12, layers=2, heads=3, tokens=6)
PROMPTS = st.lists(st.sampled_from([*TOY.words, "zebra", "Über", "42"]), max_size=9).map(" ".join)


@pytest.fixture(scope="module")
def words():
    return Words(TOY)


@pytest.fixture(scope="module")
def encoder():
    return randomise(WordsEncoder(TOY), seed=0)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("  A red,RED cube!\n", ["a", "red", "red", "cube"]),
        ("left-hand snake_case", ["left", "hand", "snake", "case"]),
        ("the cube's 2nd side", ["the", "cube's", "2nd", "side"]),
        ("'quoted' rouge_ é", ["quoted", "rouge", "é"]),
        ("🟥 ...", []),
    ],
)
def test_split(prompt, expected):
    assert split_words(prompt) == expected


def test_every_caption_can_be_read():
    assert set(CAPTION_WORDS) == set(WORDS)  # a word that is accepted has also been trained


def test_the_vocabulary_has_each_word_once_and_as_it_is_split():
    assert len(set(WORDS)) == len(WORDS)
    assert all(split_words(word) == [word] for word in WORDS)


def test_numbers(words):
    assert (PADDING, BEGIN, SPECIAL) == (0, 1, 2)
    numbers = words.to_numbers(["a Red cube", "", "a a a a a a a"])
    assert numbers.dtype == torch.long
    assert numbers.tolist() == [[1, 2, 3, 5, 0, 0], [1, 0, 0, 0, 0, 0], [1, 2, 2, 2, 2, 2]]


@settings(max_examples=30)
@given(prompts=st.lists(PROMPTS, min_size=1, max_size=3))
def test_a_row_depends_on_its_prompt_alone(prompts):
    words = Words(TOY)
    numbers = words.to_numbers(prompts)
    assert numbers.shape == (len(prompts), TOY.tokens)
    for row, prompt in zip(numbers.tolist(), prompts, strict=True):
        assert words.to_numbers([prompt]).tolist() == [row]
        read = [word for word in split_words(prompt) if word in TOY.words][: TOY.tokens - 1]
        assert row[0] == BEGIN
        assert row[len(read) + 1 :] == [PADDING] * (TOY.tokens - 1 - len(read))
        assert [TOY.words[number - SPECIAL] for number in row[1 : len(read) + 1]] == read


def test_known_prompts_pass(words):
    words.check("")
    words.check("a red cube on a")
    for word in WORDS:
        Words(POCKET_FAMILY.text).check(word)


def test_an_unknown_word_names_its_neighbours(words):
    with pytest.raises(UnknownWord, match=r"'redd'.*'a redd cube'") as caught:
        words.check("a redd cube")
    assert "nearest known: red;" in caught.value.hint
    assert "--ignore-unknown" in caught.value.hint
    assert "--model FILE" in caught.value.hint


def test_an_unknown_word_without_neighbours_gets_an_example(words):
    with pytest.raises(UnknownWord, match="'xylophone'") as caught:
        words.check("xylophone")
    assert "nearest" not in caught.value.hint
    assert "a small red cube" in caught.value.hint
    assert "--ignore-unknown" in caught.value.hint
    Words(POCKET_FAMILY.text).check("a small red cube")


def test_the_first_unknown_word_is_the_one_named(words):
    assert words.to_unknown("a zebra on a Yak, a zebra") == ["zebra", "yak"]
    with pytest.raises(UnknownWord, match="'zebra'"):
        words.check("a zebra on a yak")


def test_an_ignored_word_is_passed_by(words):
    """What --ignore-unknown leads to: the prompt without it."""
    words.check("a zebra cube", ignore_unknown=True)
    assert words.to_numbers(["a zebra cube"]).tolist() == words.to_numbers(["a cube"]).tolist()


def test_a_prompt_that_is_too_long_is_refused(words):
    with pytest.raises(RequestError, match="6 known words, this model reads 5") as caught:
        words.check("a red cube on a ball")
    assert not isinstance(caught.value, UnknownWord)
    assert "shorten" in caught.value.hint


@torch.no_grad()
def test_tokens_repeat_and_do_not_depend_on_the_batch(words, encoder):
    """Alone or in a batch: equal but for the order in which a matrix product adds up."""
    numbers = words.to_numbers(["a red cube", "a blue ball", ""])
    tokens = encoder(numbers)
    assert tokens.shape == (3, TOY.tokens, TOY.width)
    assert torch.equal(tokens, encoder(numbers))
    alone = torch.cat([encoder(row[None]) for row in numbers])
    assert torch.allclose(tokens, alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_words_and_their_order_matter(words, encoder):
    tokens = encoder(words.to_numbers(["red cube on ball", "ball on red cube", "blue cube on ball", "zebra cube on ball", ""]))
    for first in range(len(tokens)):
        for second in range(first):
            assert (tokens[first] - tokens[second]).abs().max() > 0.05


def test_gradients_reach_every_weight(words):
    encoder = randomise(WordsEncoder(TOY), seed=1)
    encoder(words.to_numbers(["a red cube", "on blue ball"])).pow(3).mean().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 1e-6, name


def test_the_pocket_encoder_has_the_width_that_its_denoiser_reads():
    with torch.device("meta"):
        encoder = WordsEncoder(POCKET_FAMILY.text)
    assert encoder.embedding.weight.shape == (SPECIAL + len(WORDS), POCKET_FAMILY.denoiser.context)
    assert encoder.norm.weight.shape == (POCKET_FAMILY.denoiser.context,)
