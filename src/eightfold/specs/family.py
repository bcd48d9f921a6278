"""What a family of generative models is, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
class Family:
    """One line of models: its space, its networks, its process and what the denoiser's output means."""

    name: str
    space: Space
    denoiser: UNetConfig
    text: WordsConfig | None
    process: ScaledLinear
    prediction: Prediction
    defaults: Defaults
    marks: tuple[Mark, ...] = ()
