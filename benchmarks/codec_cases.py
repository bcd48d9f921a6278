"""What `codec.py` and `memory.py` measure: which autoencoder, which way, how large; and which contestants there are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from eightfold.families.spaces import SPACES
from eightfold.specs.network import AutoencoderConfig, Flux2Config, HunyuanConfig, QwenConfig
from eightfold.specs.space import Space

OURS, REFERENCE = "ours", "diffusers"
PASSIVE = "PASSIVE"  # threads sleep when there is nothing to do; the default lets them spin for a while

TOYS: dict[str, AutoencoderConfig] = {
    "qwen": QwenConfig(channels=16, width=16, multipliers=(1, 2, 2, 2), blocks=1),
    "flux2": Flux2Config(width=16, decoder_width=16, multipliers=(1, 1, 2, 2), blocks=1, groups=8),
    "hunyuan": HunyuanConfig(channels=64, width=32, multipliers=(1, 1, 2, 2, 4, 4), blocks=1),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A square picture of `side` pixels, encoded or decoded. `skip` names contestants that cannot run it, with the reason."""

    space: str
    way: str
    side: int
    toy: bool = False
    default: bool = True
    repeats: int = 5
    skip: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.space}-{self.way}-{self.side}"

    @property
    def network(self) -> str:
        """Cases with the same one share their weights."""
        return f"{self.space}-toy" if self.toy else self.space


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """`modules` have to be installed in the interpreter that runs it; where there is more than one of `waits`, the better one is taken.

    One that is not `compared` cannot be given the input of the others; one with `only` a space and a way runs nothing else.
    """

    modules: tuple[str, ...]
    waits: tuple[str | None, ...] = (None,)
    peer: bool = False
    compared: bool = True
    only: tuple[str, str] | None = None


CONTESTANTS = {
    OURS: Contestant(modules=("torch", "eightfold"), waits=(PASSIVE,)),
    REFERENCE: Contestant(modules=("torch", "diffusers"), waits=(None, PASSIVE)),
    "diffusers channels-last": Contestant(modules=("torch", "diffusers"), waits=(None, PASSIVE)),
    "OpenVINO": Contestant(modules=("openvino", "torch", "diffusers"), peer=True),
    "stable-diffusion.cpp": Contestant(
        modules=("stable_diffusion_cpp", "torch", "eightfold"), peer=True, compared=False, only=("sd", "decode")
    ),
}

QUADRATIC = tuple((name, "its attention would hold a matrix of 17 GB") for name in ("OpenVINO", "stable-diffusion.cpp"))
CASES = (
    Case(space="sd", way="decode", side=512),
    Case(space="sd", way="encode", side=512),
    Case(space="sd", way="decode", side=1024, repeats=3),
    Case(space="sd", way="decode", side=2048, repeats=3, default=False, skip=QUADRATIC),
    Case(space="sd", way="encode", side=1024, repeats=3, default=False),
    Case(space="qwen", way="decode", side=512, repeats=3),
    Case(space="flux2", way="decode", side=512),
    Case(space="hunyuan", way="decode", side=512),
    Case(space="hunyuan", way="decode", side=1024, repeats=3, default=False),
)
QUICK = (
    Case(space="pocket", way="decode", side=128),
    Case(space="pocket", way="encode", side=128, default=False),
    *(Case(space=space, way="decode", side=128, toy=True, default=space == "qwen") for space in TOYS),
)


def to_space(name: str, *, toy: bool = False) -> Space:
    """The space of that name; with `toy`, with a small network of its kind."""
    space = next(space for space in SPACES if space.name == name)
    return replace(space, autoencoder=TOYS[name]) if toy else space


def to_facts(space: Space) -> dict[str, object]:
    """What a worker that knows nothing of eightfold needs to build the network."""
    config = space.autoencoder
    return {"kind": type(config).__name__, "downscale": config.downscale, **asdict(config)}
