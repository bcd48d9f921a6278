"""Prompts to what a denoiser is told: weights, chunks and inversions through one or two CLIP towers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import RequestError, UnknownName
from ..specs.text import ClipConfig, ClipReading, ClipText
from .chunks import Chunk, to_chunks
from .clip import ClipTower
from .condition import Condition, Length
from .inversion import Dictionary, Inversion, check_inversion
from .prompt import parse_prompt
from .tokenizer import BEGIN, END, read_tokenizer

WEIGHTINGS = ("mean", "plain")


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipConditioner:
    """The text side of a model, as `text.condition` has it: `towers` in the order of `text.readings`, and how prompts are read.

    `inversions` are the words that prompts may use beside the vocabulary. `skip` reads the towers so many layers earlier: 0 is diffusers'
    `clip_skip=None` and the web UI's "Clip skip 1", 1 is their 1 and 2. `weighting` says what a weight does. Either way the numbers of a
    token are multiplied by it; "mean" then scales its chunk so that the mean stays what it was, as AUTOMATIC1111's web UI does by default
    (modules/sd_emphasis.py, "Original"), "plain" leaves it at that ("No norm"). A mean near 0, which SDXL's towers may give, makes the
    first erratic.

    Raises WeightMismatch for an inversion of another width, UnknownName for a weighting that there is not, RequestError for a skip that
    leaves no layer.
    """

    text: ClipText
    towers: tuple[ClipTower, ...]
    inversions: tuple[Inversion, ...] = ()
    weighting: str = "mean"
    skip: int = 0

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise UnknownName("weighting", self.weighting, WEIGHTINGS)
        least = min(reading.depth for reading in self.text.readings)
        if not 0 <= self.skip < least:
            raise RequestError(f"clip skip {self.skip}: the text is read behind layer {least}", hint=f"it may be 0 to {least - 1}")
        for inversion in self.inversions:
            check_inversion(inversion, self.text)

    @cached_property
    def dictionary(self) -> Dictionary:
        return Dictionary(self.inversions)

    def check(self, prompt: str, *, ignore_unknown: bool = False) -> None:
        """Any prompt can be read."""

    @property
    def room(self) -> int:
        """How many tokens a chunk has room for, in every tower."""
        return min(reading.tower.room for reading in self.text.readings)

    def split(self, prompt: str) -> list[Chunk]:
        """The prompt as its chunks, at least one; nothing of it is left out."""
        return to_chunks(parse_prompt(prompt), read_tokenizer(), self.dictionary, self.room)

    def measure(self, prompt: str) -> Length:
        return Length(tuple(map(len, self.split(prompt))), self.room)

    def count_tokens(self, prompt: str) -> int:
        """How many tokens the prompt has, without begin, end and padding."""
        return sum(map(len, self.split(prompt)))

    def count_chunks(self, prompt: str) -> int:
        """How many chunks it takes: each costs the denoiser as much as a short prompt does."""
        return len(self.split(prompt))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Condition:
        """All prompts with the same number of tokens, 77 a chunk: behind those with fewer chunks than others stand empty ones.

        Each is encoded alone, so that it does not depend on its company. The pooled vector is that of the first chunk, as in other
        programs that cut prompts; neither weights nor a skip change it.
        """
        cut = [self.split(prompt) for prompt in prompts]
        most = max(map(len, cut))
        told = [self.read([*chunks, *([] for _ in range(most - len(chunks)))]) for chunks in cut]
        pooled = [one.pooled for one in told if one.pooled is not None]
        return Condition(torch.cat([one.tokens for one in told]), torch.cat(pooled) if pooled else None)

    def encode_pair(self, prompt: str, negative: str | None = None) -> tuple[Condition, Condition]:
        """The prompt and what to stay away from, in the same number of chunks.

        Where no negative prompt is given (None), the empty one counts, or zeros where the family wants them; "" is always the empty one.
        """
        both = self.encode([prompt, negative or ""])
        positive, other = (Condition(both.tokens[i : i + 1], None if both.pooled is None else both.pooled[i : i + 1]) for i in range(2))
        if negative is None and self.text.zero_negative:
            other = Condition(torch.zeros_like(other.tokens), None if other.pooled is None else torch.zeros_like(other.pooled))
        return positive, other

    def read(self, chunks: Sequence[Chunk]) -> Condition:
        """One prompt, what all towers say of it side by side."""
        parts = [self.read_tower(*each, chunks) for each in zip(self.text.readings, self.towers, strict=True)]
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Condition(torch.cat([part.tokens for part in parts], dim=2), torch.cat(pooled, dim=1) if pooled else None)

    def read_tower(self, reading: ClipReading, tower: ClipTower, chunks: Sequence[Chunk]) -> Condition:
        embedded = embed(tower, chunks)
        ends = torch.tensor([1 + len(chunk) for chunk in chunks], device=tower.device) if reading.pooled else None
        tokens, pooled = tower(embedded, ends, depth=reading.depth - self.skip, norm=reading.norm)
        tokens = weigh(tokens, chunks, self.weighting)
        return Condition(tokens.flatten(0, 1)[None], None if pooled is None else pooled[:1])


def to_row(chunk: Chunk, config: ClipConfig) -> list[int]:
    """The chunk's numbers between begin and end, padded."""
    row = [BEGIN, *(item.number for item in chunk), END]
    return row + [config.padding] * (config.tokens - len(row))


def embed(tower: ClipTower, chunks: Sequence[Chunk]) -> Float[Tensor, "c n d"]:
    """Token embeddings of the chunks, with the vectors of inversions in their places."""
    config = tower.config
    embedded = tower.embed(torch.tensor([to_row(chunk, config) for chunk in chunks], device=tower.device))
    for number, chunk in enumerate(chunks):
        for place, item in enumerate(chunk, 1):
            if item.word is not None:
                embedded[number, place] = item.word.vectors[config.width][item.row].to(embedded)
    return embedded


def weigh(tokens: Float[Tensor, "c n d"], chunks: Sequence[Chunk], weighting: str) -> Float[Tensor, "c n d"]:
    """Each token times its weight; begin, end and padding count once."""
    if all(item.weight == 1 for chunk in chunks for item in chunk):
        return tokens
    weights = torch.ones(tokens.shape[:2])
    for number, chunk in enumerate(chunks):
        weights[number, 1 : 1 + len(chunk)] = torch.tensor([item.weight for item in chunk])
    wide = tokens.float()
    weighed = wide * weights[..., None].to(wide.device)
    if weighting == "mean":
        before, after = (x.mean(dim=(1, 2), keepdim=True) for x in (wide, weighed))
        weighed = weighed * torch.where(after == 0, 1.0, before / after)
    return weighed.to(tokens.dtype)
