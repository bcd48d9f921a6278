"""What is asked for: one dataclass for the command line, Python and HTTP. Tasks are fields, not classes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..codec.pixels import Picture
from ..core.errors import RequestError
from ..core.rng import to_noise_source
from ..specs.family import Family

LARGEST = 16384  # pixels a side
MOST = 10_000  # pictures of one request
SEEDS = 2**63
FEATHER = 512  # pixels
STRENGTH = 0.75  # of a start that says nothing of it


@dataclass(frozen=True, kw_only=True)
class Guide:
    """A ControlNet's file and the picture that it is shown, `prepare`d as `pipelines.preprocess` can; the rest: see `pipelines.control`."""

    net: str | Path
    picture: str | Path | Picture
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    prepare: str = "none"

    def __str__(self) -> str:
        return f"{self.net}={to_name(self.picture)},weight={self.weight:g},start={self.start:g},end={self.end:g},prepare={self.prepare}"


@dataclass(frozen=True, kw_only=True)
class Request:
    """Pictures from a prompt. None leaves the choice to the model's family.

    `size` is width, height in pixels. Picture i of `count` uses seed + i and equals the picture made alone with that seed.
    `guidance` 1 asks the denoiser once a step, more makes it follow the prompt more closely (arXiv 2207.12598); `negative` is what
    to lead away from. `eta` is DDIM's share of fresh noise. `noise_source` is whose order of drawing noise is followed, such as
    "a1111:gpu" (see `core.rng.to_noise_source`). Raises RequestError for a count, a seed or a noise source that cannot be.

    `start` is a picture to begin from, by its file or as it is; of the steps the last share `strength` is made. Where there is a `mask`
    (of the same size, white where it is to draw) all else stays as it was, to the bit; over `feather` pixels inside it the old goes over
    into the new. `outpaint` adds room on the left, top, right and bottom. With `only_masked` the part that is masked is drawn at the
    model's own size, and put back. `raw` leaves the picture as it was decoded, without putting back what was to stay.
    `variation` is the share of the noise of `variation_seed`, along a great circle. With `enlarge` above 1 the picture is first drawn so
    many times smaller, then enlarged and begun from with `enlarge_strength`: large pictures without doubled objects.
    `enlarge_model` is the file of a network that enlarges it (`pipelines.enlarge`), where interpolation is not to.
    `rescale` and `interval`: see `diffusion.guidance`; `controls` are ControlNets. At `handover`, a share of the times from noise to
    picture, the model's refiner takes over. `picture_guidance` is how closely a model that changes pictures by instructions keeps to them.
    """

    prompt: str
    negative: str = ""
    size: tuple[int, int] | None = None
    steps: int | None = None
    sampler: str | None = None
    grid: str | None = None
    guidance: float | None = None
    eta: float = 0.0
    seed: int = 0
    count: int = 1
    noise_source: str = "ours"
    ignore_unknown: bool = False
    start: str | Path | Picture | None = None
    strength: float | None = None
    mask: str | Path | Picture | None = None
    feather: int = 0
    outpaint: tuple[int, int, int, int] = (0, 0, 0, 0)
    only_masked: bool = False
    raw: bool = False
    variation_seed: int = 0
    variation: float = 0.0
    enlarge: float = 1.0
    enlarge_strength: float = 0.6
    enlarge_model: str | Path | None = None
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    controls: tuple[Guide, ...] = ()
    handover: float | None = None
    picture_guidance: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST:
            raise RequestError(f"count {self.count}: expected 1 to {MOST}", hint="--count 4 makes four pictures")
        check_seed(self.seed, self.count)
        check_seed(self.variation_seed)
        to_noise_source(self.noise_source)
        if not 0 <= self.variation <= 1:
            raise RequestError(f"variation {self.variation}: expected 0 to 1", hint="--variation 0.1 changes little")
        if not 1 <= self.enlarge <= 8:
            raise RequestError(f"enlarge {self.enlarge}: expected 1 to 8", hint="--enlarge 2 draws at half the size first")
        if self.enlarge > 1 and self.mask is not None:
            raise RequestError("a mask and two passes at once", hint="--only-masked draws the masked part at the model's own size")
        if self.enlarge_model is not None and self.enlarge == 1:
            raise RequestError("a network that enlarges, and nothing to enlarge", hint="--enlarge 2 draws at half the size first")
        if not 0 <= self.feather <= FEATHER:
            raise RequestError(f"feather {self.feather}: expected 0 to {FEATHER} pixels", hint="--feather 8")
        if self.handover is not None and not 0 < self.handover < 1:
            raise RequestError(f"handover {self.handover}: expected more than 0, less than 1", hint="--handover 0.8 leaves the last fifth")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request with nothing left open: what will be done, and what a picture's metadata records."""

    prompt: str
    negative: str
    width: int
    height: int
    steps: int
    sampler: str
    grid: str
    guidance: float
    eta: float
    seed: int
    count: int
    noise_source: str = "ours"
    start: str | None = None
    strength: float = 1.0
    mask: str | None = None
    feather: int = 0
    outpaint: tuple[int, int, int, int] = (0, 0, 0, 0)
    only_masked: bool = False
    raw: bool = False
    variation_seed: int = 0
    variation: float = 0.0
    enlarge: float = 1.0
    enlarge_strength: float = 0.6
    enlarge_model: str | None = None
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    controls: tuple[str, ...] = ()
    handover: float | None = None
    picture_guidance: float | None = None


def to_plan(request: Request, family: Family, size: tuple[int, int] | None = None) -> Plan:
    """Fill in the family's defaults, or for a picture to begin from its `size`, and check it (RequestError)."""
    defaults = family.defaults
    width, height = size or request.size or defaults.size
    if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
        hint = f"{family.name} is at home at {to_text(defaults.size)}"
        raise RequestError(f"size {width}x{height}: each side can be 1 to {LARGEST} pixels", hint=hint)
    guidance = defaults.guidance if request.guidance is None else request.guidance
    picture = family.picture_guidance if request.picture_guidance is None else request.picture_guidance
    if request.negative and guidance == 1 and picture in (None, 1):
        raise RequestError("a negative prompt has no effect at guidance 1", hint="leave one of the two out; guidance 3 to 9 is usual")
    if request.picture_guidance is not None and family.picture_guidance is None:
        raise RequestError("picture guidance: this model is not one that changes pictures by instructions", hint="leave it out")
    if family.denoiser.guidance is not None:
        refuse_beside_told(request)
    return Plan(
        prompt=request.prompt,
        negative=request.negative,
        width=width,
        height=height,
        steps=defaults.steps if request.steps is None else request.steps,
        sampler=request.sampler or defaults.sampler,
        grid=request.grid or defaults.grid,
        guidance=guidance,
        eta=request.eta,
        seed=request.seed,
        count=request.count,
        noise_source=request.noise_source,
        start=to_name(request.start),
        strength=choose_strength(request, family),
        mask=to_name(request.mask),
        feather=request.feather,
        outpaint=request.outpaint,
        only_masked=request.only_masked,
        raw=request.raw,
        variation_seed=request.variation_seed,
        variation=request.variation,
        enlarge=request.enlarge,
        enlarge_strength=request.enlarge_strength,
        enlarge_model=None if request.enlarge_model is None else str(request.enlarge_model),
        rescale=request.rescale,
        interval=request.interval,
        controls=tuple(map(str, request.controls)),
        handover=request.handover,
        picture_guidance=picture,
    )


def refuse_beside_told(request: Request) -> None:
    """Raise RequestError for what changes guidance, where the network itself is told the scale and asked once a step."""
    asked = {"a negative prompt": request.negative, "a rescale": request.rescale, "an interval": request.interval != (0.0, 1.0)}
    for name, is_asked in asked.items():
        if is_asked:
            raise RequestError(f"{name} has no effect on this model, which is told its guidance as a number", hint="leave it out")


def choose_strength(request: Request, family: Family) -> float:
    """A network that is shown the picture begins from noise alone unless something else is asked for."""
    if request.strength is not None:
        return request.strength
    return 1.0 if request.start is None or family.reads else STRENGTH


def to_name(given: str | Path | Picture | None) -> str | None:
    """Where a picture came from."""
    return None if given is None else given.source or "a picture" if isinstance(given, Picture) else str(given)


def check_seed(seed: int, count: int = 1) -> None:
    """Raise a RequestError unless `seed` and the `count` - 1 after it are seeds."""
    if not 0 <= seed <= SEEDS - count:
        raise RequestError(f"seed {seed}: expected 0 to 2**63 - {count}", hint="--seed 1")


def to_size(text: str) -> tuple[int, int]:
    """ "512x768" as (512, 768): width first, everywhere."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*[xX\u00d7]\s*(\d{1,6})\s*", text)
    if match is None:
        raise RequestError(f"size {text!r} is not WIDTHxHEIGHT", hint="--size 512x768 is 512 wide and 768 high")
    return int(match[1]), int(match[2])


def to_room(text: str) -> tuple[int, int, int, int]:
    """ "64,0,64,0" as (64, 0, 64, 0): left, top, right, bottom."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*,\s*(\d{1,5})\s*,\s*(\d{1,5})\s*,\s*(\d{1,5})\s*", text)
    if match is None:
        raise RequestError(
            f"room {text!r} is not LEFT,TOP,RIGHT,BOTTOM", hint="--outpaint 64,0,64,0 adds 64 pixels on the left and on the right"
        )
    left, top, right, bottom = (int(part) for part in match.groups())
    return left, top, right, bottom


def to_interval(text: str) -> tuple[float, float]:
    """ "0.2,0.8" as (0.2, 0.8)."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise RequestError(f"interval {text!r} is not LOW,HIGH", hint="--interval 0.2,0.8") from None
    return low, high


def to_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
