"""eightfold generate: pictures from prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from ..core.errors import OutputError, RequestError
from ..core.files import refuse_existing
from ..core.progress import Progress
from .console import Outcome, show_loading, show_notes, show_progress, show_warnings
from .options import ANIMATIONS, PICTURES, Choice, Flag, Output, Whole, WholeOrNone, refuse_folder, to_placement, to_slugs, to_text

if TYPE_CHECKING:
    from ..codec.pixels import Picture
    from ..pipelines.request import Request


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A picture to begin from, and what of it is drawn anew.

    Parameters
    ----------
    start
        A picture to begin from; the result has its size unless --size says otherwise.
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
    enlarge
        Draw so many times smaller first, then enlarge and draw over it: large pictures without doubled objects.
    enlarge_strength
        How much of the enlarged picture is drawn anew.
    """

    start: Path | None = None
    strength: float | None = None
    mask: Path | None = None
    feather: Whole = 0
    outpaint: str | None = None
    only_masked: Flag = False
    raw: Flag = False
    enlarge: float = 1.0
    enlarge_strength: float = 0.6

    def to_fields(self) -> dict[str, Any]:
        from ..pipelines.request import to_room

        return {**vars(self), "outpaint": (0, 0, 0, 0) if self.outpaint is None else to_room(self.outpaint)}


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
        The times of the steps: uniform, leading, trailing, karras, exponential, beta or ays.
    guidance
        How closely to follow the prompt; 1 is none.
    eta
        DDIM's share of fresh noise, 0 to 1.
    seed
        Seed of the first picture; picture i has seed + i.
    count
        Pictures a prompt.
    variation_seed
        Seed of other noise, for --variation.
    variation
        How much of that noise to take, 0 to 1: pictures near to that of the seed.
    ignore_unknown
        Pass by words that the model does not know.
    """

    negative: str = ""
    size: str | None = None
    steps: WholeOrNone = None
    sampler: str | None = None
    grid: str | None = None
    guidance: float | None = None
    eta: float = 0.0
    seed: Whole = 0
    count: Whole = 1
    variation_seed: Whole = 0
    variation: float = 0.0
    ignore_unknown: Flag = False

    def to_request(self, prompt: str, beginning: Beginning | None = None) -> Request:
        from ..pipelines.request import Request, to_size

        size = None if self.size is None else to_size(self.size)
        return Request(prompt=prompt, **{**vars(self), "size": size}, **(beginning or Beginning()).to_fields())


def generate(
    *prompt: str,
    prompts: Path | None = None,
    film: Path | None = None,
    sampling: Sampling = Sampling(),
    beginning: Beginning = Beginning(),
    choice: Choice = Choice(),
    output: Output = Output(),
) -> int:
    """Pictures from text, and from other pictures: each PROMPT is one prompt.

    Parameters
    ----------
    prompt
        What to show, such as "a red cube".
    prompts
        A text file with one prompt a line.
    film
        Also save how each picture came about: a strip (.png) or an animation (.gif, .webp) of the clean estimate at every step.
    """
    texts = [*prompt, *(read_prompts(prompts) if prompts else [])]
    if not texts:
        raise RequestError("no prompt given", hint='eightfold generate "a red cube"')
    requests = [sampling.to_request(text, beginning) for text in texts]
    paths = output.to_paths([f"{name}-{sampling.seed + index}.png" for name in to_slugs(texts) for index in range(sampling.count)])
    if film is not None:
        check_film(film, paths, overwrite=output.overwrite)
    with show_loading(choice.model):
        from ..pipelines.bundle import load

        model = load(choice.model, vae=choice.vae, device=choice.device, dtype=choice.dtype, memory=choice.memory)
        show_warnings(model.warnings)
        runs = [model.generate(request) for request in requests]  # every request is checked before the first step of any
    outcome, todo = Outcome(), iter(paths)
    strips: list[list[Picture]] = []
    warnings: dict[str, None] = {}
    # a picture that cannot be written ends the run: the next ones would fare no better; those that are there stay
    with show_progress() as update, outcome.attempt("generate"):
        for index, (run, request) in enumerate(zip(runs, requests, strict=True)):
            for step in run:
                update(Progress(task="generate", number=index * step.total + step.number, total=len(requests) * step.total))
                if film is not None:
                    if step.is_first:
                        strips.append([])
                    strips[-1].append(step.preview())
                if step.is_last:
                    path = next(todo)
                    picture = step.images[-1]
                    notes = (*picture.notes, *picture.save(path, overwrite=output.overwrite))
                    result = {"prompt": request.prompt, "seed": step.seed, "path": str(path), "notes": list(notes)}
                    result |= {"warnings": list(picture.warnings)}
                    warnings |= dict.fromkeys(picture.warnings)
                    outcome.add({**result, **to_placement(model.placement)}, f"{path}{to_text(notes)}", as_json=output.json)
        if film is not None:
            write_film(film, strips, overwrite=output.overwrite)
            outcome.add({"film": str(film)}, str(film), as_json=output.json)
    show_warnings(tuple(warnings))
    code = outcome.finish(as_json=output.json, reason=model.placement.reason)
    show_notes(model.codec.engine)
    return code


def check_film(film: Path, paths: list[Path], *, overwrite: bool) -> None:
    """Refuse a film that could not be written, before any work."""
    if film.suffix.lower() not in (*PICTURES, *ANIMATIONS):
        hint = f"a strip is {' '.join(PICTURES[:3])}, an animation {' '.join(ANIMATIONS)}"
        raise OutputError(f"--film {film}: unknown ending {film.suffix!r}", hint=hint)
    if film.absolute() in [path.absolute() for path in paths]:
        raise OutputError(f"--film {film} is also the name of a picture", hint="give the film another name")
    refuse_existing(film, overwrite=overwrite)
    refuse_folder(film)


def read_prompts(path: Path) -> list[str]:
    """One prompt a line; blank lines are passed by."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}", hint="--prompts names a text file with one prompt a line") from None
    except UnicodeDecodeError:
        raise RequestError(f"{path} is not text", hint="--prompts names a UTF-8 text file with one prompt a line") from None
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise RequestError(f"{path} has no prompts in it", hint="write one prompt a line")
    return texts


def write_film(path: Path, strips: list[list[Picture]], *, overwrite: bool) -> None:
    """A strip a picture, or one animation with the pictures side by side."""
    from ..codec.pixels import write_animation, write_picture
    from ..pipelines.sheet import to_row, to_sheet

    metadata = strips[0][-1].metadata
    if path.suffix.lower() in ANIMATIONS:
        frames = [to_row([picture.image for picture in moment]) for moment in zip(*strips, strict=True)]
        write_animation(path, frames, milliseconds=120, metadata=metadata, overwrite=overwrite)
    else:
        sheet = to_sheet([picture.image for strip in strips for picture in strip], columns=len(strips[0]))
        write_picture(path, sheet, metadata=metadata, overwrite=overwrite)
