"""What a family of generative models is, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from .keymap import Keymap
from .mark import Mark
from .network import UNetConfig, WordsConfig
from .process import Process
from .space import Space
from .text import ClipText

Prediction = Literal["noise", "velocity", "clean", "edm"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a request gets where it says nothing. `size` is width, height in pixels."""

    size: tuple[int, int]
    steps: int
    sampler: str
    grid: str
    guidance: float


Extra = Literal["mask", "depth", "covered", "raw", "latent"]


@dataclass(frozen=True, kw_only=True)
class Edition:
    """One published variant of a family's denoiser; `marks` are what it shows beyond those of the family.

    `space`, `keymap`, `denoiser`, `text` and `defaults` are the family's own where they are None. `reads` lists what the network is shown
    beside the noisy latent, in the order of its channels: a mask (1 where it is to draw), a map of depth, the latent of a picture that is
    grey where it is to draw ("covered"), the mode of a picture's posterior as it is ("raw") or normalised ("latent").

    One that is shown a whole picture is also guided by it: `picture_guidance` is by how much where nothing is said. Its `readings`, unless
    None, take the place of the family's.

    One with a `handover` refines what another edition has begun: unless asked otherwise, it takes over when that share of the times is
    over.
    """

    name: str
    marks: tuple[Mark, ...] = ()
    space: Space | None = None
    keymap: Keymap | None = None
    denoiser: UNetConfig | None = None
    text: ClipText | None = None
    defaults: Defaults | None = None
    reads: tuple[Extra, ...] = ()
    readings: tuple[Reading, ...] | None = None
    picture_guidance: float | None = None
    handover: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Another meaning of a denoiser's output than its family's, and how a file says so; what is None is as the family has it.

    It says so by the tensor `key`; with `spread` the standard deviation of its numbers (under its name in our layout) has to be above that.
    Or by any one of what is `declared`: a name in its metadata, or "scheduler.NAME" or "vae.NAME" in these configurations of a diffusers
    folder, and the value there (None: whatever it is).

    `levels` are the tensors that hold the lowest and the highest noise level of an Edm process, which has its own where they are not there;
    `moments` those with the mean and the standard deviation of every channel of the raw latents, by which these are normalised; a folder
    has them in its autoencoder's configuration, as latents_mean and latents_std.
    """

    key: str = ""
    spread: float | None = None
    declared: tuple[tuple[str, str | None], ...] = ()
    prediction: Prediction | None = None
    process: Process | None = None
    levels: tuple[str, str] | None = None
    moments: tuple[str, str] | None = None
    defaults: Defaults | None = None
    reads: tuple[Extra, ...] = ()


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
    """A line that can draw here: its networks, its process and what the denoiser's output means.

    The last only where no one of `readings` holds; `reads`, `picture_guidance` and `handover`: see Edition.
    """

    denoiser: UNetConfig
    text: WordsConfig | ClipText
    process: Process
    prediction: Prediction
    defaults: Defaults
    readings: tuple[Reading, ...] = ()
    reads: tuple[Extra, ...] = ()
    picture_guidance: float | None = None
    handover: float | None = None

    def to_edition(self, name: str) -> Family:
        """The family as one of its editions has it."""
        edition = next(one for one in self.editions if one.name == name)
        return replace(
            self,
            editions=(edition,),
            space=edition.space or self.space,
            keymap=edition.keymap or self.keymap,
            denoiser=edition.denoiser or self.denoiser,
            text=edition.text or self.text,
            defaults=edition.defaults or self.defaults,
            reads=edition.reads or self.reads,
            readings=self.readings if edition.readings is None else edition.readings,
            picture_guidance=edition.picture_guidance,
            handover=edition.handover,
        )
