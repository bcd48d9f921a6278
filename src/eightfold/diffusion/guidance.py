"""Guidance: making a denoiser follow its condition more closely than it learned to."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from jaxtyping import Float
from torch import Tensor

from ..core.errors import RequestError


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance (arXiv 2207.12598): away from the output without the condition, by `scale`.

    Scale 1 is the conditional output itself and needs one evaluation only; 0 ignores the condition. It combines *outputs*, not clean
    estimates: every prediction type gives clean as the same affine map of the output, and the two weights add up to 1, so both
    orders give the same, and this one converts once.
    """

    scale: float

    def __post_init__(self) -> None:
        if not (isfinite(self.scale) and self.scale >= 0):
            raise RequestError(f"guidance: {self.scale}; expected a number of 0 or more", hint="1 is no guidance, 3 to 9 is usual")

    @property
    def needs_negative(self) -> bool:
        """Whether the output without the condition (or for the negative prompt) is needed."""
        return self.scale != 1

    def combine(self, positive: Float[Tensor, "b c h w"], negative: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return negative + self.scale * (positive - negative)
