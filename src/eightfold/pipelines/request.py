"""What is asked for: one dataclass for the command line, Python and HTTP. Tasks are fields, not classes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..core.errors import RequestError
from ..specs.family import Family

LARGEST = 16384  # pixels a side
MOST = 10_000  # pictures of one request
SEEDS = 2**63


@dataclass(frozen=True, kw_only=True)
class Request:
    """Pictures from a prompt. None leaves the choice to the model's family.

    `size` is width, height in pixels. Picture i of `count` uses seed + i and equals the picture made alone with that seed.
    `guidance` 1 asks the denoiser once a step, more makes it follow the prompt more closely (arXiv 2207.12598); `negative` is what
    to lead away from. `eta` is DDIM's share of fresh noise. Raises RequestError for a count or a seed that cannot be.
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
    ignore_unknown: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST:
            raise RequestError(f"count {self.count}: expected 1 to {MOST}", hint="--count 4 makes four pictures")
        check_seed(self.seed, self.count)


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


def to_plan(request: Request, family: Family) -> Plan:
    """Fill in the family's defaults and check the size (RequestError)."""
    defaults = family.defaults
    width, height = request.size or defaults.size
    if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
        hint = f"{family.name} is at home at {to_text(defaults.size)}"
        raise RequestError(f"size {width}x{height}: each side can be 1 to {LARGEST} pixels", hint=hint)
    guidance = defaults.guidance if request.guidance is None else request.guidance
    if request.negative and guidance == 1:
        raise RequestError("a negative prompt has no effect at guidance 1", hint="leave one of the two out; guidance 3 to 9 is usual")
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
    )


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


def to_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
