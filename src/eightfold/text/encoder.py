"""Prompts to what a denoiser reads: weights, chunks and inversions through one or two CLIP towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import RequestError, UnknownName
from ..specs.text import ClipConfig, ClipReading, ClipText
from .chunks import Chunk, to_chunks
from .clip import ClipTower
from .inversion import Dictionary, Inversion, check_inversion
from .prompt import parse_prompt
from .tokenizer import BEGIN, END, read_tokenizer

WEIGHTINGS = ("mean", "plain")


class Conditioning(NamedTuple):
    """`tokens` are those of all chunks in a row; `pooled` stands for the whole prompt, where the model reads such a vector."""

    tokens: Float[Tensor, "1 n d"]
    pooled: Float[Tensor, "1 p"] | None


class PromptEncoder:
    """The text side of a model: `towers` in the order of `text.readings`, and the inversions that its prompts may use.

    `weighting` says what a weight does. Either way each token's numbers are multiplied by it; "mean" then scales the chunk so that its
    mean stays what it was, as AUTOMATIC1111's web UI does by default; "plain" leaves it at that ("No norm" there). A mean near 0, which
    SDXL's towers may give, makes the first erratic.
    """

    def __init__(
        self, text: ClipText, towers: Sequence[ClipTower], *, inversions: Sequence[Inversion] = (), weighting: str = "mean"
    ) -> None:
        """Raises WeightMismatch for an inversion of another width, UnknownName for a weighting that there is not."""
        if weighting not in WEIGHTINGS:
            raise UnknownName("weighting", weighting, WEIGHTINGS)
        for inversion in inversions:
            check_inversion(inversion, text)
        self.text, self.towers, self.weighting = text, tuple(towers), weighting
        self.tokenizer, self.dictionary = read_tokenizer(), Dictionary(inversions)
        self.room = min(reading.tower.room for reading in text.readings)

    def split(self, prompt: str) -> list[Chunk]:
        """The prompt as its chunks, at least one; nothing of it is left out."""
        return to_chunks(parse_prompt(prompt), self.tokenizer, self.dictionary, self.room)

    def count_tokens(self, prompt: str) -> int:
        """How many tokens the prompt has, without begin, end and padding."""
        return sum(map(len, self.split(prompt)))

    def count_chunks(self, prompt: str) -> int:
        """How many chunks it takes: each costs the denoiser as much as a short prompt does."""
        return len(self.split(prompt))

    @torch.no_grad()
    def encode(self, prompt: str, *, chunks: int = 1, skip: int = 0) -> Conditioning:
        """The prompt for the denoiser, in at least `chunks` chunks: empty ones follow, where it has fewer.

        `skip` reads the towers so many layers earlier (0 is diffusers' `clip_skip=None`, 1 its 1 and the web UI's "Clip skip 2"). The
        pooled vector is that of the first chunk, as in all programs that cut prompts, and no skip changes it.
        Raises RequestError for a skip that leaves no layer.
        """
        cut = self.split(prompt)
        cut += [[] for _ in range(chunks - len(cut))]
        parts = [self.read(reading, tower, cut, skip) for reading, tower in zip(self.text.readings, self.towers, strict=True)]
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Conditioning(torch.cat([part.tokens for part in parts], dim=2), torch.cat(pooled, dim=1) if pooled else None)

    def encode_pair(self, prompt: str, negative: str | None = None, *, skip: int = 0) -> tuple[Conditioning, Conditioning]:
        """The prompt and what to stay away from, in the same number of chunks. Without a negative prompt the empty one counts, or zeros
        where the family wants them; "" is always the empty prompt."""
        chunks = max(self.count_chunks(prompt), self.count_chunks(negative or ""))
        positive = self.encode(prompt, chunks=chunks, skip=skip)
        if negative is None and self.text.zero_negative:
            pooled = None if positive.pooled is None else torch.zeros_like(positive.pooled)
            return positive, Conditioning(torch.zeros_like(positive.tokens), pooled)
        return positive, self.encode(negative or "", chunks=chunks, skip=skip)

    def read(self, reading: ClipReading, tower: ClipTower, chunks: Sequence[Chunk], skip: int) -> Conditioning:
        """One tower's part."""
        depth = reading.depth - skip
        if skip < 0 or depth < 1:
            hint = f"it may be 0 to {reading.depth - 1}"
            raise RequestError(f"clip skip {skip}: {reading.tower.name} is read behind layer {reading.depth}", hint=hint)
        embedded = embed(tower, chunks)
        ends = torch.tensor([1 + len(chunk) for chunk in chunks], device=tower.device) if reading.pooled else None
        tokens, pooled = tower(embedded, ends, depth=depth, norm=reading.norm)
        tokens = weigh(tokens, chunks, self.weighting)
        return Conditioning(tokens.flatten(0, 1)[None], None if pooled is None else pooled[:1])


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
