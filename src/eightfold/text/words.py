"""The pocket model's text encoder: a closed vocabulary and a small transformer."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import RequestError, UnknownWord, to_nearest
from ..nn.attention import Attention
from ..specs.network import WordsConfig
from .condition import Condition, Length

PADDING, BEGIN = range(2)
SPECIAL = 2


def split_words(prompt: str) -> list[str]:
    """Lower-case words; anything that is not a letter, a digit or an apostrophe separates."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", prompt.lower())


class Words:
    """Prompts to word numbers, by a fixed list."""

    def __init__(self, config: WordsConfig) -> None:
        self.config = config
        self.numbers = {word: SPECIAL + index for index, word in enumerate(config.words)}

    def to_unknown(self, prompt: str) -> list[str]:
        """The words of `prompt` that are not in the list, each once, in order."""
        return list(dict.fromkeys(word for word in split_words(prompt) if word not in self.numbers))

    def check(self, prompt: str, *, ignore_unknown: bool = False) -> None:
        """Raise UnknownWord, naming the nearest known words, unless they are passed by; RequestError for a prompt that is too long."""
        unknown = [] if ignore_unknown else self.to_unknown(prompt)
        if unknown:
            word = unknown[0]
            near = to_nearest(word, self.numbers)
            known = f"nearest known: {', '.join(near)}" if near else "it knows colours, shapes, sizes and places, as in 'a small red cube'"
            hint = f"{known}; --ignore-unknown passes it by; --model FILE uses another model"
            raise UnknownWord(f"this model does not know the word {word!r} (in {prompt!r})", hint=hint)
        count = sum(word in self.numbers for word in split_words(prompt))
        if count > self.config.tokens - 1:
            raise RequestError(f"the prompt has {count} known words, this model reads {self.config.tokens - 1}", hint="shorten the prompt")

    def to_numbers(self, prompts: Sequence[str]) -> Int[Tensor, "b n"]:
        """Word numbers, padded to the model's length; unknown words and words past the end are left out."""
        rows: list[list[int]] = []
        for prompt in prompts:
            row = [BEGIN, *(self.numbers[word] for word in split_words(prompt) if word in self.numbers)][: self.config.tokens]
            rows.append(row + [PADDING] * (self.config.tokens - len(row)))
        return torch.tensor(rows, dtype=torch.long)


class WordsLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


def build_embedding(count: int, width: int) -> nn.Embedding:
    """nn.Embedding with its usual start. On `meta` there is nothing to draw, and trying to makes torch import a compiler for seconds."""
    embedding = nn.Embedding.from_pretrained(torch.empty(count, width), freeze=False)
    if not embedding.weight.is_meta:
        nn.init.normal_(embedding.weight)
    return embedding


class WordsEncoder(nn.Module):
    """Word numbers to tokens: embedding, learned positions, a few self-attention layers."""

    def __init__(self, config: WordsConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = build_embedding(SPECIAL + len(config.words), config.width)
        self.position = nn.Parameter(torch.zeros(config.tokens, config.width))
        self.layers = nn.ModuleList(WordsLayer(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, numbers: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        x = self.embedding(numbers) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class WordsConditioner:
    """The word list and the encoder, as `text.condition` has it."""

    def __init__(self, config: WordsConfig, encoder: WordsEncoder) -> None:
        self.words, self.encoder = Words(config), encoder

    def check(self, prompt: str, *, ignore_unknown: bool = False) -> None:
        self.words.check(prompt, ignore_unknown=ignore_unknown)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Unknown words are left out."""
        device = self.encoder.position.device
        return Condition(torch.cat([self.encoder(self.words.to_numbers([prompt]).to(device)) for prompt in prompts]))

    def encode_pair(self, prompt: str, negative: str | None = None) -> tuple[Condition, Condition]:
        return self.encode([prompt]), self.encode([negative or ""])

    def count_tokens(self, prompt: str) -> int:
        return sum(word in self.words.numbers for word in split_words(prompt))

    def measure(self, prompt: str) -> Length:
        return Length((self.count_tokens(prompt),), self.words.config.tokens - 1)
