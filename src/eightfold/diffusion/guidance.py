"""Guidance: making a denoiser follow its condition more closely than it learned to."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import RequestError


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance (arXiv 2207.12598): away from the output without the condition, by `scale`.

    Scale 1 is the conditional output itself and needs one evaluation only; 0 ignores the condition. It combines *outputs*, not clean
    estimates: every prediction type gives clean as the same affine map of the output, and the two weights add up to 1, so both
    orders give the same, and this one converts once.

    `rescale` takes that part of the way from the guided output to one with the spread of the conditional output, against pictures that are
    too bright and too plain (arXiv 2305.08891, section 3.4: 0.7 for velocity). `interval` holds two times in [0, 1]: guidance acts at
    low < t <= high only (arXiv 2404.07724, there in noise levels), elsewhere the scale is 1. Raises RequestError for what cannot be.

    With `picture`, the network is shown a picture, too, and asked for a third output, without it and without the condition: what the
    picture adds to that counts so many times, and what the condition adds to both `scale` times (arXiv 2211.09800, equation 3).
    """

    scale: float
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    picture: float | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.scale) and self.scale >= 0):
            raise RequestError(f"guidance: {self.scale}; expected a number of 0 or more", hint="1 is no guidance, 3 to 9 is usual")
        if self.picture is not None and not (isfinite(self.picture) and self.picture >= 0):
            hint = "1 is no guidance by the picture, 1.2 to 2 is usual"
            raise RequestError(f"picture guidance: {self.picture}; expected a number of 0 or more", hint=hint)
        if not 0 <= self.rescale <= 1:
            raise RequestError(f"guidance rescale: {self.rescale}; expected 0 to 1", hint="0 changes nothing, 0.7 is usual")
        low, high = self.interval
        if not 0 <= low < high <= 1:
            hint = "times run from 1 (noise) to 0 (clean): 0.2 0.8 leaves the first and the last fifth of them without guidance"
            raise RequestError(f"guidance interval: {low} to {high}; expected two times from 0 to 1, the lower first", hint=hint)

    @property
    def needs_negative(self) -> bool:
        """Whether the output without the condition (or for the negative prompt) is needed at any time."""
        return self.scale != 1 or self.picture not in (None, 1)

    def acts_at(self, t: float) -> bool:
        """Whether it is needed at time `t`: where it is not, the conditional output is the answer."""
        low, high = self.interval
        return self.needs_negative and low < t <= high

    def combine(
        self, positive: Float[Tensor, "b c h w"], negative: Float[Tensor, "b c h w"], neither: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        guided = negative + self.scale * (positive - negative)
        if neither is not None and self.picture is not None:
            guided = guided + (self.picture - 1) * (negative - neither)
        if self.rescale == 0:
            return guided
        wanted, found = (output.std((1, 2, 3), correction=0, keepdim=True) for output in (positive, guided))
        factor = torch.where(found > 0, wanted / found, 1.0)
        return guided * (1 + self.rescale * (factor - 1))
