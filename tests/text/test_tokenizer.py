"""The tokenizer of CLIP: known numbers, and transformers' on any text."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.text.tokenizer import BEGIN, BEGIN_WORD, END, END_WORD, VOCABULARY, read_merges, read_tokenizer

FOLDER = files("eightfold") / "text" / "vocabulary"
WORDS = st.sampled_from(
    ["a", "Cat", "naïve", "x's", "I'll", "1024", "don't", "(red)", "...", "!?", "<a>", "日本", "🟥", "\u0301", "ﬁ", "İ", "\t\n", " "]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=12).map(" ".join), st.lists(WORDS, max_size=12).map("".join))


@pytest.fixture(scope="module")
def tokenizer():
    return read_tokenizer()


@pytest.fixture(scope="module")
def theirs(tokenizer):
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=dict(tokenizer.numbers), merges=read_merges(), model_max_length=77)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", []),
        (" \n", []),
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A PHOTO  of\ta cat", [320, 1125, 539, 320, 2368]),
        ("hello world!", [3306, 1002, 256]),
        ("! !! !!!", [256, 748, 995]),
        (f"a{END_WORD}b{BEGIN_WORD}", [320, END, 321, BEGIN]),
    ],
)
def test_known_numbers(tokenizer, text, numbers):
    """Those that the tokenizers of OpenAI and OpenCLIP give, and the two words that are not text."""
    assert tokenizer.to_numbers(text) == numbers


def test_the_vocabulary(tokenizer):
    assert len(tokenizer.numbers) == len(tokenizer.words) == 49408
    assert [tokenizer.numbers[word] for word in ("!", "!</w>", BEGIN_WORD, END_WORD)] == [0, 256, BEGIN, END]
    assert tokenizer.to_word(tokenizer.comma) == ",</w>"
    assert tokenizer.to_numbers(",") == [tokenizer.comma]


@settings(max_examples=400)
@given(text=TEXTS)
def test_any_text_has_the_numbers_of_transformers(tokenizer, theirs, text):
    assert tokenizer.to_numbers(text) == theirs(text, add_special_tokens=False).input_ids


def test_one_letter_may_be_two_characters(tokenizer, theirs):
    assert tokenizer.to_numbers("cafe\u0301") == tokenizer.to_numbers("caf\u00e9") == theirs("caf\u00e9").input_ids[1:-1]


def test_half_a_character_is_read_too(tokenizer):
    assert tokenizer.to_numbers("a \ud83d b") == tokenizer.to_numbers("a ? b")


def test_one_word_may_be_long(tokenizer):
    assert len(tokenizer.to_numbers("ab" * 20_000)) > 1000


def test_it_is_built_once():
    assert read_tokenizer() is read_tokenizer()


def test_the_vocabulary_comes_with_its_licence():
    digest = hashlib.sha256((FOLDER / VOCABULARY).read_bytes()).hexdigest()
    assert digest in (FOLDER / "README.md").read_text()
    licence = (FOLDER / "LICENSE").read_text()
    assert "MIT License" in licence and "OpenAI" in licence


def test_transformers_is_not_loaded_for_it():
    code = "import sys, eightfold.text.clipcondition as e; e.read_tokenizer().to_numbers('x'); assert 'transformers' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
