"""Noise that depends on a seed and nothing else: not on the device, the batch or what ran before. On request, that of other programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from .errors import RequestError, UnknownName
from .philox import Philox

if TYPE_CHECKING:
    from torch import Generator, Tensor

LARGEST_BATCH = 64
Stream = Callable[[tuple[int, ...]], "Tensor"]  # shape -> its next noise


def build_generator(seed: int, *purpose: object) -> Generator:
    """A CPU generator for `seed`. A different `purpose` gives an independent stream; without one the seed is used as it is."""
    import torch

    if purpose:
        digest = sha256(repr((seed, *purpose)).encode()).digest()
        seed = int.from_bytes(digest[:8], "little") >> 1
    return torch.Generator().manual_seed(seed)


def draw_noise(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Standard normal float32 of `shape`, drawn on the CPU."""
    import torch

    return torch.randn(shape, generator=generator, dtype=torch.float32)


@dataclass(frozen=True, kw_only=True)
class Program:
    """In which order a program draws.

    `first_on_gpu`: on a GPU it draws the first noise there, too. `restart`: the noise of ancestral samplers comes from a stream of its own,
    that of seed + restart on a CPU and of the seed on a GPU; None where it goes on in the stream of the first noise. `batches`: pictures
    of a batch are drawn at once from one seed, and not from a seed each. `shifts`: the later noise may be of a shifted seed.
    `fresh_passes`: a second pass draws its noise from the beginning again.
    """

    first_on_gpu: bool = True
    restart: int | None = None
    batches: bool = False
    shifts: bool = False
    fresh_passes: bool = False
    has_gpu: bool = True


PROGRAMS = {
    "ours": Program(has_gpu=False),
    # AUTOMATIC1111/stable-diffusion-webui modules/rng.py, class ImageRNG: a generator for each picture, on the device of the setting "RNG"
    # (GPU, where nothing is said; CPU; NV, which is a GPU's numbers made on a CPU). With ENSD (eta noise seed delta) all but the first
    # noise is of seed + ENSD. A second pass (hires fix) makes a new ImageRNG of the same seed
    "a1111": Program(shifts=True, fresh_passes=True),
    # comfyanonymous/ComfyUI comfy/sample.py, prepare_noise: always on the CPU, the whole batch at once; comfy/k_diffusion/sampling.py,
    # default_noise_sampler: a generator of its own where the network runs. (Older versions went on in the first stream on a CPU)
    "comfy": Program(first_on_gpu=False, restart=1, batches=True, fresh_passes=True),
    # diffusers.utils.torch_utils.randn_tensor, with one generator; a list of generators is a batch of one for each
    "diffusers": Program(batches=True),
}


@dataclass(frozen=True, kw_only=True)
class NoiseSource:
    """Whose order of drawing noise is followed: see PROGRAMS.

    `gpu`: as it draws on an NVIDIA GPU. `place`: of a batch of `batch` drawn at once, which picture, from 1. `shift` is ENSD.
    """

    program: str = "ours"
    gpu: bool = False
    place: int = 1
    batch: int = 1
    shift: int = 0


def to_noise_source(text: str) -> NoiseSource:
    """ "a1111", "a1111:gpu,ensd=31337", "comfy:2/4" as a NoiseSource. UnknownName, or RequestError for words that a program cannot have."""
    name, _, words = text.strip().lower().partition(":")
    if name not in PROGRAMS:
        raise UnknownName("noise source", name, PROGRAMS)
    program, source = PROGRAMS[name], NoiseSource(program=name)
    for word in words.split(",") if words else ():
        place, shift = re.fullmatch(r"(\d{1,4})/(\d{1,4})", word.strip()), re.fullmatch(r"ensd=(\d{1,12})", word.strip())
        if word.strip() == "gpu" and program.has_gpu:
            source = replace(source, gpu=True)
        elif place and program.batches and 1 <= int(place[1]) <= int(place[2]) <= LARGEST_BATCH:
            source = replace(source, place=int(place[1]), batch=int(place[2]))
        elif shift and program.shifts:
            source = replace(source, shift=int(shift[1]))
        else:
            known = [*["gpu"] * program.has_gpu, *[f"2/4 (of at most {LARGEST_BATCH})"] * program.batches, *["ensd=31337"] * program.shifts]
            hint = f"{name}: can be followed by {', '.join(known)}" if known else f"{name} stands alone"
            raise RequestError(f"noise source {text!r}: {word!r} is not known", hint=hint)
    return source


class Draws:
    """All noise of one picture in a program's order, float32: the first tensor of a pass for its start, the others for samplers.

    Reproduced: which numbers, and in which order, for a program that runs in float32 and draws once a step, as ancestral samplers, DDPM,
    DDIM with eta and LCM do. Not reproduced: the Brownian trees of the SDE samplers of A1111 and ComfyUI, which draw by time and not in
    order; 16-bit generators; and what networks and other devices round otherwise.
    """

    def __init__(self, seed: int, source: NoiseSource) -> None:
        self.seed, self.source, self.program = seed, source, PROGRAMS[source.program]
        self.begin()

    def begin(self) -> None:
        """The streams of the first noise and of all other, from their beginning."""
        source, program = self.source, self.program
        first = later = build_stream(self.seed, gpu=source.gpu and program.first_on_gpu)
        if program.restart is not None:
            later = build_stream(self.seed if source.gpu else self.seed + program.restart, gpu=source.gpu)
        elif source.shift:
            later = build_stream(self.seed + source.shift, gpu=source.gpu)
        self.next, self.later = first, later

    def begin_pass(self) -> None:
        """For a second pass of the same picture."""
        if self.program.fresh_passes:
            self.begin()

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """The next noise, of a shape whose first axis is 1."""
        stream, self.next = self.next, self.later
        return stream((self.source.batch, *shape[1:]))[self.source.place - 1 : self.source.place]


def build_stream(seed: int, *, gpu: bool) -> Stream:
    """Shape -> the next noise of this seed."""
    return Philox(seed).draw if gpu else partial(draw_noise, generator=build_generator(seed))
