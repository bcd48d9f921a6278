"""Options of the verbs that draw: how, from what, and with what beside the model's own file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from .options import Flag, WholeOrNone, is_folder

if TYPE_CHECKING:
    from ..pipelines.extras import Extras
    from ..pipelines.request import Request

Files = Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A picture to begin from, and what of it is drawn anew.

    Parameters
    ----------
    start
        A picture to begin from, or a folder of them; the result has its size unless --size says otherwise.
    strength
        How much of it is drawn anew: 0.3 keeps most, 1 nothing. 0.75 unless given.
    mask
        A picture of the same size: white is drawn anew, all else stays as it is, to the bit.
    feather
        Pixels inside the mask over which the old goes over into the new.
    outpaint
        Room to add and fill, in pixels: LEFT,TOP,RIGHT,BOTTOM.
    only_masked
        Draw the masked part alone, at the model's own size, and put it back.
    raw
        Leave the picture as it was decoded: put nothing back.
    control
        NET=PICTURE: a ControlNet's file and the picture that it is shown; behind it ,weight=0.8 ,start=0 ,end=0.5 ,prepare=canny (or lines,
        depth). May be given more than once.
    enlarge
        Draw so many times smaller first, then enlarge and draw over it: large pictures without doubled objects.
    enlarge_strength
        How much of the enlarged picture is drawn anew; by default 0.6.
    enlarge_model
        A network that enlarges for --enlarge, a weight file of ESRGAN's kind, in place of interpolation.
    """

    start: Path | None = None
    strength: float | None = None
    mask: Path | None = None
    feather: WholeOrNone = None
    outpaint: str | None = None
    only_masked: Flag = False
    raw: Flag = False
    control: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    enlarge: float | None = None
    enlarge_strength: float | None = None
    enlarge_model: Path | None = None

    def list_starts(self) -> list[Path | None]:
        """The picture, every picture in the folder, or none."""
        if self.start is None or not is_folder(self.start):
            return [self.start]
        from ..pipelines.gather import list_pictures

        return [*list_pictures([self.start])]

    def to_fields(self) -> dict[str, Any]:
        """Of a Request: those that were given."""
        from ..pipelines.guides import to_guide
        from ..pipelines.request import to_room

        given = {name: value for name, value in vars(self).items() if name != "control"}
        given["controls"] = tuple(map(to_guide, self.control)) or None
        return select({**given, "outpaint": None if self.outpaint is None else to_room(self.outpaint)})


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Beside:
    """Files that a model is given beside its own; each of them may be given more than once.

    Parameters
    ----------
    text
        A file or folder with a text encoder that the model's file has not.
    embedding
        A textual inversion; prompts use it by the file's name.
    lora
        FILE or FILE:WEIGHT, a LoRA, LoHa or LoKr.
    clip_skip
        Read the text so many layers earlier.
    prediction
        What the model predicts, noise or velocity, where its file's own marks are not to decide.
    refiner
        A refiner's file, folder or name on a hub: it takes over what the model has begun, see --handover.
    """

    text: Files = ()
    embedding: Files = ()
    lora: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    clip_skip: WholeOrNone = None
    prediction: str | None = None
    refiner: str | None = None

    def to_extras(self) -> Extras:
        from ..pipelines.extras import Extras, to_weighed

        adapters = tuple(to_weighed(one) for one in self.lora)
        return Extras(
            text=self.text,
            embeddings=self.embedding,
            adapters=adapters,
            skip=self.clip_skip or 0,
            prediction=self.prediction,
            refiner=self.refiner,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How pictures are made; what is left out is chosen by the model.

    Parameters
    ----------
    negative
        What to lead away from.
    size
        WIDTHxHEIGHT in pixels.
    steps
        Steps of the sampler.
    sampler
        ddpm, ddim, euler, euler-ancestral, heun, dpm2, dpm2-ancestral, dpm++2s-ancestral, dpm++2m, dpm++2m-sde, dpm++3m, dpm++3m-sde,
        dpm++sde, lms, plms, unipc, unipc3 or lcm.
    grid
        The times of the steps: uniform, leading, trailing, karras, exponential, beta, ays or lcm.
    guidance
        How closely to follow the prompt; 1 is none.
    rescale
        How far to take guidance's contrast back, 0 to 1; 0.7 suits models that predict velocity.
    interval
        LOW,HIGH: guidance acts between these times only; 1 is noise, 0 the picture.
    picture_guidance
        How closely to keep to the picture, for models that change pictures by instructions (InstructPix2Pix); by default 1.5.
    handover
        The share of the times after which --refiner takes over: 0.8 leaves it the last fifth, and is the default.
    eta
        DDIM's share of fresh noise, 0 to 1; by default 0.
    seed
        Seed of the first picture, by default 0; picture i has seed + i.
    count
        Pictures a prompt; by default 1.
    noise_source
        Whose order of drawing noise to follow: ours, a1111, comfy or diffusers; a1111:gpu, a1111:ensd=31337, comfy:2/4 (picture 2 of a
        batch of 4).
    variation_seed
        Seed of other noise, for --variation.
    variation
        How much of that noise to take, 0 to 1: pictures near to that of the seed.
    ignore_unknown
        Pass by words that the model does not know.
    """

    negative: str | None = None
    size: str | None = None
    steps: WholeOrNone = None
    sampler: str | None = None
    grid: str | None = None
    guidance: float | None = None
    rescale: float | None = None
    interval: str | None = None
    picture_guidance: float | None = None
    handover: float | None = None
    eta: float | None = None
    seed: WholeOrNone = None
    count: WholeOrNone = None
    noise_source: str | None = None
    variation_seed: WholeOrNone = None
    variation: float | None = None
    ignore_unknown: Flag = False

    def to_fields(self) -> dict[str, Any]:
        """Of a Request: those that were given."""
        from ..pipelines.request import to_interval, to_size

        size = None if self.size is None else to_size(self.size)
        return select({**vars(self), "size": size, "interval": None if self.interval is None else to_interval(self.interval)})

    def to_request(self, prompt: str | None, beginning: Beginning | None = None, like: Request | None = None) -> Request:
        """What is asked for; the rest is as in `like`, or left to the model."""
        from ..pipelines.request import Request

        given = {**self.to_fields(), **(beginning or Beginning()).to_fields(), **({} if prompt is None else {"prompt": prompt})}
        return replace(like or Request(prompt=""), **given)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Showing:
    """What is seen of the work.

    Parameters
    ----------
    explain
        Print what the request comes to, with the memory that decoding will take, and do nothing.
    preview
        A picture file (.png) that shows at every step what is expected, small.
    preview_vae
        A small autoencoder of the model's space, such as TAESD or its decoder alone, that shows --preview in full size.
    film
        Also save how each picture came about: a strip (.png) or an animation (.gif, .webp) of the clean estimate at every step.
    """

    explain: Flag = False
    preview: Path | None = None
    preview_vae: Path | None = None
    film: Path | None = None


def select(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were given: no flag is given as False, and nothing as None."""
    return {name: value for name, value in options.items() if value is not None and value is not False}
