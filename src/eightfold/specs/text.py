"""What a text encoder is built from and how a family reads it, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """The text tower of CLIP (arXiv 2103.00020): token and position embeddings, causal transformer layers, a final norm.

    `projection` is the width of the pooled vector; None: the tower is built without that map. `padding` is the token that fills a chunk
    behind its end. `layout` names the keymap that leads from the layout which it was published in. `tokens` is the length of a chunk with
    its begin and end, `vocabulary` the number of token embeddings.
    """

    name: str
    width: int
    layers: int
    heads: int
    activation: Literal["quick_gelu", "gelu"]
    projection: int | None = None
    padding: int
    layout: str = "clip"
    tokens: int = 77
    vocabulary: int = 49408

    @property
    def room(self) -> int:
        """How many tokens of a prompt fit into a chunk."""
        return self.tokens - 2


@dataclass(frozen=True, kw_only=True)
class ClipReading:
    """What is taken out of a tower: tokens behind `depth` layers, with the final norm or without.

    `pooled`: also the projected vector at the prompt's end, which takes all layers and the norm.
    """

    tower: ClipConfig
    depth: int
    norm: bool
    pooled: bool = False


@dataclass(frozen=True, kw_only=True)
class ClipText:
    """The text side of a family: what its towers say of each token, side by side.

    `zero_negative`: where no negative prompt is given, zeros stand for it instead of the empty prompt's tokens.
    """

    readings: tuple[ClipReading, ...]
    zero_negative: bool = False

    @property
    def width(self) -> int:
        """Numbers a token."""
        return sum(reading.tower.width for reading in self.readings)

    @property
    def pooled(self) -> int | None:
        """Numbers in the pooled vector; None where there is none."""
        return sum(reading.tower.projection or 0 for reading in self.readings if reading.pooled) or None
