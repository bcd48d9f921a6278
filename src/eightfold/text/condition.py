"""What a denoiser is told of a prompt, whichever text encoder said it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from jaxtyping import Float
from torch import Tensor


class Condition(NamedTuple):
    """Prompts as a denoiser sees them: `tokens` for its attention and, where it is told of the text as a whole, `pooled`."""

    tokens: Float[Tensor, "b n d"]
    pooled: Float[Tensor, "b p"] | None = None


class Length(NamedTuple):
    """How long a prompt is: tokens in each of its chunks, without begin, end and padding, and the `room` that a chunk has."""

    counts: tuple[int, ...]
    room: int

    @property
    def tokens(self) -> int:
        return sum(self.counts)

    def __str__(self) -> str:
        if len(self.counts) == 1:
            return f"{self.tokens} tokens, of {self.room} that there is room for"
        return f"{self.tokens} tokens in {len(self.counts)} chunks of {self.room} ({', '.join(map(str, self.counts))})"


class Conditioner(Protocol):
    """A tokenizer and its encoder, ready to use."""

    def check(self, prompt: str, *, ignore_unknown: bool = False) -> None:
        """Raise RequestError for a prompt that it cannot read."""
        ...

    def encode(self, prompts: Sequence[str]) -> Condition:
        """All of them with the same number of tokens."""
        ...

    def encode_pair(self, prompt: str, negative: str | None = None) -> tuple[Condition, Condition]:
        """The prompt and what to lead away from, with the same number of tokens; None is whatever stands for nothing in the family."""
        ...

    def count_tokens(self, prompt: str) -> int:
        """How many tokens the prompt has, without begin, end and padding."""
        ...

    def measure(self, prompt: str) -> Length:
        """The same, chunk by chunk: what of the prompt is read together."""
        ...
