"""What a family of generative models is, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .keymap import Keymap
from .mark import Mark
from .network import UNetConfig, WordsConfig
from .process import ScaledLinear
from .space import Space

Prediction = Literal["noise", "velocity", "clean"]


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a request gets where it says nothing. `size` is width, height in pixels."""

    size: tuple[int, int]
    steps: int
    sampler: str
    grid: str
    guidance: float


@dataclass(frozen=True, kw_only=True)
class Edition:
    """One published variant of a family's denoiser; `marks` are what it shows beyond those of the family.

    `space` and `keymap` are the family's own where they are None.
    """

    name: str
    marks: tuple[Mark, ...] = ()
    space: Space | None = None
    keymap: Keymap | None = None


@dataclass(frozen=True, kw_only=True)
class KnownFamily:
    """One line of models, and the tensors by which its denoisers are known: marks of structure, which hold at any width.

    `marks` name tensors in our layout; `keymap` leads there from the other one that the line is published in.
    """

    name: str
    space: Space
    marks: tuple[Mark, ...]
    editions: tuple[Edition, ...] = (Edition(name="base"),)
    keymap: Keymap | None = None


@dataclass(frozen=True, kw_only=True)
class Family(KnownFamily):
    """A line that can draw here: its networks, its process and what the denoiser's output means."""

    denoiser: UNetConfig
    text: WordsConfig | None
    process: ScaledLinear
    prediction: Prediction
    defaults: Defaults
