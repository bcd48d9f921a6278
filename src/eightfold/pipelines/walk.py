"""Walks: from one picture or prompt to another through latent space, and the cross-fade in pixels to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..codec.codec import Codec
from ..codec.pixels import Picture, read_picture
from ..core.errors import RequestError
from ..text.condition import Condition
from .bundle import Model
from .generate import GenerationStep, Tokens, encode_prompts, generate
from .request import Request, to_plan
from .transcode import slerp


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame: the picture at `share` of the way through latent space, and the mixture of the two end pictures' pixels.

    `notes`: what was done otherwise than asked, such as a decoding that ran again in a wider dtype.
    """

    number: int
    total: int
    share: float
    latent: Float[Tensor, "1 3 h w"]
    pixel: Float[Tensor, "1 3 h w"]
    notes: tuple[str, ...] = ()


def to_shares(frames: int) -> list[float]:
    if not 2 <= frames <= 1000:
        raise RequestError(f"frames {frames}: expected 2 to 1000", hint="--frames 16")
    return [index / (frames - 1) for index in range(frames)]


def walk_images(codec: Codec, start: str | Path, end: str | Path, frames: int) -> Iterator[Frame]:
    """From one picture to another by slerp of their latents. The second is scaled and cropped to the size of the first."""
    shares = to_shares(frames)
    first = read_picture(start)
    second = fit(read_picture(end), first)
    latents = [codec.encode(picture) for picture in (first, second)]
    ends = [codec.normalise(latent.raw.to(codec.device)) for latent in latents]
    images = [codec.decode(latent).image for latent in latents]
    encoding = tuple(dict.fromkeys(note for latent in latents for note in latent.notes))
    for number, share in enumerate(shares, 1):
        found = codec.decode_as(codec.denormalise(slerp(ends[0], ends[1], share)), latents[0])
        pixel, notes = (1 - share) * images[0] + share * images[1], tuple(dict.fromkeys((*encoding, *found.notes)))
        yield Frame(number=number, total=frames, share=share, latent=found.image, pixel=pixel, notes=notes)


def walk_prompts(model: Model, start: Request, end: Request, frames: int) -> Iterator[Frame]:
    """From one prompt to another: slerp of what the text encoder says of them, everything else as in `start`, the seed included."""
    shares = to_shares(frames)
    start, end = replace(start, count=1), replace(end, count=1, seed=start.seed)
    plans = [to_plan(request, model.family) for request in (start, end)]
    if (plans[0].width, plans[0].height) != (plans[1].width, plans[1].height):
        raise RequestError("the two prompts ask for pictures of different sizes", hint="a walk has one size")
    first, second = tokens = [encode_prompts(model, plan) for plan in plans]
    # both are checked before the first step of either
    ends = [generate(model, request, tokens=own) for request, own in zip((start, end), tokens, strict=True)]
    pictures = [finish(run) for run in ends]
    images = [picture.image for picture in pictures]
    for number, share in enumerate(shares, 1):
        found = pictures[int(share)] if share in (0, 1) else finish(generate(model, start, tokens=mix_tokens(first, second, share)))
        pixel = (1 - share) * images[0] + share * images[1]
        yield Frame(number=number, total=frames, share=share, latent=found.image, pixel=pixel, notes=found.notes)


def mix_tokens(start: Tokens, end: Tokens, share: float) -> Tokens:
    """Between two prompts, led away from what the first one is."""
    refiner = None if start.refiner is None or end.refiner is None else mix_tokens(start.refiner, end.refiner, share)
    return Tokens(mix(start.positive, end.positive, share), start.negative, refiner)


def mix(start: Condition, end: Condition, share: float) -> Condition:
    pooled = None if start.pooled is None or end.pooled is None else slerp(start.pooled, end.pooled, share)
    return Condition(slerp(start.tokens, end.tokens, share), pooled)


def finish(run: Iterator[GenerationStep]) -> Picture:
    *_, last = run
    return last.images[0]


def fit(picture: Picture, target: Picture) -> Picture:
    """Scale so that `target`'s size is covered, and crop the middle."""
    height, width = target.image.shape[-2:]
    old_height, old_width = picture.image.shape[-2:]
    if (old_height, old_width) == (height, width):
        return picture
    scale = max(height / old_height, width / old_width)
    size = (max(height, round(old_height * scale)), max(width, round(old_width * scale)))
    image = F.interpolate(picture.image, size=size, mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return replace(picture, image=image[:, :, top : top + height, left : left + width], alpha=None)


def to_pairs(frames: list[Frame]) -> list[Float[Tensor, "1 3 h w2"]]:
    """Each frame with its cross-fade to the right of it."""
    return [torch.cat([frame.latent, frame.pixel], dim=-1) for frame in frames]
