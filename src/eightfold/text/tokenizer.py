"""Prompts to token numbers: the byte pair encoding of CLIP (arXiv 2103.00020, section 2.4), from its vocabulary in this package.

The numbers are those of OpenAI, OpenCLIP and transformers, with one exception on purpose: the tokenizers in diffusers' folders of Stable
Diffusion 2 and XL pad with the word "!" and so take each "!" of a prompt for padding. Here it is a sign like others, as those models were
trained.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 48894  # of those listed in the file, the ones that CLIP uses
BEGIN_WORD, END_WORD = "<|startoftext|>", "<|endoftext|>"
BEGIN, END = 49406, 49407
WORD_END = "</w>"
PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def list_letters() -> list[str]:
    """A printable letter for each byte: its own where it has one, else one from 256 on, in the order in which the vocabulary begins."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(256 - len(printable))]


def read_merges() -> list[tuple[str, str]]:
    """The pairs that are joined, the first ones first."""
    content = (files("eightfold") / "text" / "vocabulary" / VOCABULARY).read_bytes()
    lines = gzip.decompress(content).decode("utf-8").split("\n")[1 : 1 + MERGES]
    return [(first, second) for first, second in (line.split() for line in lines)]


class ClipTokenizer:
    """Texts to numbers, without the begin and the end that stand around a chunk."""

    def __init__(self, merges: Sequence[tuple[str, str]]) -> None:
        from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

        letters = list_letters()
        self.words = [*letters, *(letter + WORD_END for letter in letters), *map("".join, merges), BEGIN_WORD, END_WORD]
        self.numbers = {word: number for number, word in enumerate(self.words)}
        self.comma = self.numbers["," + WORD_END]
        model = models.BPE(vocab=self.numbers, merges=list(merges), end_of_word_suffix=WORD_END, unk_token=END_WORD)
        self.tokenizer = Tokenizer(model)
        self.tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self.tokenizer.add_special_tokens([AddedToken(word, special=True) for word in (BEGIN_WORD, END_WORD)])

    def to_numbers(self, text: str) -> list[int]:
        """Token numbers of a text of any length; half a surrogate pair, which is no character, counts as a question mark."""
        whole = text.encode("utf-8", "replace").decode("utf-8")
        return self.tokenizer.encode(whole, add_special_tokens=False).ids

    def to_word(self, number: int) -> str:
        """A token as the vocabulary spells it: letters that stand for bytes, and `</w>` where a word ends."""
        return self.words[number]


@cache
def read_tokenizer() -> ClipTokenizer:
    """The one tokenizer that all towers share; it is built once in a process."""
    return ClipTokenizer(read_merges())
