"""eightfold generate: pictures from prompts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..core.errors import OutputError, RequestError
from ..core.files import refuse_existing
from ..core.progress import Progress
from .console import Outcome, show_loading, show_notes, show_progress, show_warnings
from .keeper import Keeper
from .options import (
    ANIMATIONS,
    PICTURES,
    Choice,
    Flag,
    Output,
    Whole,
    WholeOrNone,
    is_folder,
    refuse_folder,
    to_placement,
    to_slugs,
    to_text,
)

if TYPE_CHECKING:
    from ..codec.pixels import Picture
    from ..pipelines.bundle import Model
    from ..pipelines.extras import Extras
    from ..pipelines.like import Likeness
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
    enlarge
        Draw so many times smaller first, then enlarge and draw over it: large pictures without doubled objects.
    enlarge_strength
        How much of the enlarged picture is drawn anew; by default 0.6.
    """

    start: Path | None = None
    strength: float | None = None
    mask: Path | None = None
    feather: WholeOrNone = None
    outpaint: str | None = None
    only_masked: Flag = False
    raw: Flag = False
    enlarge: float | None = None
    enlarge_strength: float | None = None

    def list_starts(self) -> list[Path | None]:
        """The picture, every picture in the folder, or none."""
        if self.start is None or not is_folder(self.start):
            return [self.start]
        from ..pipelines.gather import list_pictures

        return [*list_pictures([self.start])]

    def to_fields(self) -> dict[str, Any]:
        """Of a Request: those that were given."""
        from ..pipelines.request import to_room

        return select({**vars(self), "outpaint": None if self.outpaint is None else to_room(self.outpaint)})


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
    """

    text: Files = ()
    embedding: Files = ()
    lora: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    clip_skip: Whole = 0
    prediction: str | None = None

    def to_extras(self) -> Extras:
        from ..pipelines.extras import Extras, to_weighed

        adapters = tuple(to_weighed(one) for one in self.lora)
        return Extras(text=self.text, embeddings=self.embedding, adapters=adapters, skip=self.clip_skip, prediction=self.prediction)


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
    rescale
        How far to take guidance's contrast back, 0 to 1; 0.7 suits models that predict velocity.
    interval
        LOW,HIGH: guidance acts between these times only; 1 is noise, 0 the picture.
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


def select(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were given: no flag is given as False, and nothing as None."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


def generate(
    *prompt: str,
    prompts: Path | None = None,
    like: Path | None = None,
    explain: Flag = False,
    preview: Path | None = None,
    film: Path | None = None,
    sampling: Sampling = Sampling(),
    beginning: Beginning = Beginning(),
    beside: Beside = Beside(),
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
    like
        A picture to make again, by what it says of itself: the same bit for bit for one of ours, as near as it gets for those of A1111,
        ComfyUI and InvokeAI. What else is given takes the place of what it says.
    explain
        Print what the request comes to, with the memory that decoding will take, and do nothing.
    preview
        A picture file (.png) that shows at every step what is expected, small.
    film
        Also save how each picture came about: a strip (.png) or an animation (.gif, .webp) of the clean estimate at every step.
    """
    likeness = read_like(like, beginning) if like else None
    requests = to_requests([*prompt, *(read_prompts(prompts) if prompts else [])], sampling, beginning, likeness)
    paths = output.to_paths(to_names(requests))
    if film is not None:
        check_film(film, paths, overwrite=output.overwrite)
    if preview is not None:
        check_preview(preview, [*paths, *([film] if film else [])], overwrite=output.overwrite)
    with show_loading(choice.model):
        model = load_model(choice, beside, likeness)
        show_warnings(model.warnings)
        if explain:
            return show_plans(model, requests, as_json=output.json)
        runs = [model.generate(request) for request in requests]  # every request is checked before the first step of any
    origin = to_origin(likeness, like, model, {**vars(choice), **vars(sampling), **vars(beginning)}) if likeness else {}
    outcome, todo = Outcome(), iter(paths)
    strips: list[list[Picture]] = []
    warnings: dict[str, None] = {}
    keeper = Keeper(choice)
    # a picture that cannot be written ends the run: the next ones would fare no better; those that are there stay
    with show_progress() as update, outcome.attempt("generate"), keeper:
        for index, (run, request) in enumerate(zip(runs, requests, strict=True)):
            keeper.begin(paths[sum(one.count for one in requests[:index]) :])
            for step in keeper.watch(run):
                update(Progress(task="generate", number=index * step.total + step.number, total=len(requests) * step.total))
                if preview is not None:
                    step.preview().save(preview, overwrite=True)
                if film is not None:
                    if step.is_first:
                        strips.append([])
                    strips[-1].append(step.decode())
                if step.is_last:
                    picture = step.images[-1]
                    warnings |= dict.fromkeys(picture.warnings)
                    result, line = save(picture, next(todo), overwrite=output.overwrite)
                    result = {"prompt": request.prompt, "seed": step.seed, **result, **origin, **to_placement(model.placement)}
                    outcome.add(result, line, as_json=output.json)
        if film is not None:
            write_film(film, strips, overwrite=output.overwrite)
            outcome.add({"film": str(film)}, str(film), as_json=output.json)
    show_warnings(tuple(warnings))
    code = outcome.finish(as_json=output.json, reason=model.placement.reason)
    show_notes(model.codec.engine)
    return code


def show_plans(model: Model, requests: list[Request], *, as_json: bool) -> int:
    from ..pipelines.generate import resolve

    outcome = Outcome()
    for request in requests:
        outline = resolve(model, request)
        record = {"model": model.source, "family": model.family.name, "edition": model.edition, **asdict(outline.plan)}
        record |= {"prediction": model.family.prediction, "notes": list(model.notes), **to_placement(model.placement)}
        record |= {"legs": [{"width": leg.width, "height": leg.height, "steps": leg.moves} for leg in outline.legs]}
        lines = [f"{name:<16} {value}" for name, value in record.items() if value not in (None, "", [])]
        if outline.decoding is not None:
            record["decoding"] = outline.decoding.to_json()
            lines += outline.decoding.to_lines()
        outcome.add(record, "\n".join(lines), as_json=as_json)
    return outcome.finish(as_json=as_json)


def check_preview(preview: Path, paths: list[Path], *, overwrite: bool) -> None:
    """Refuse a preview that could not be written, before any work. It is written again at every step."""
    if preview.suffix.lower() not in PICTURES:
        raise OutputError(f"--preview {preview}: unknown ending {preview.suffix!r}", hint=f"known: {' '.join(PICTURES)}")
    if preview.absolute() in [path.absolute() for path in paths]:
        raise OutputError(f"--preview {preview} is also the name of a result", hint="give the preview another name")
    refuse_existing(preview, overwrite=overwrite)
    refuse_folder(preview)


def read_like(path: Path, beginning: Beginning) -> Likeness:
    from ..pipelines.like import read_likeness

    return read_likeness(path, begins=beginning.start is not None, masks=beginning.mask is not None)


def to_requests(texts: list[str], sampling: Sampling, beginning: Beginning, likeness: Likeness | None) -> list[Request]:
    """One for each text; where there is none, that of the picture to make again."""
    if not texts and likeness is None:
        raise RequestError("no prompt given", hint='eightfold generate "a red cube"')
    found = [replace(beginning, start=start) for start in beginning.list_starts()]
    return [sampling.to_request(text, one, likeness and likeness.request) for one in found for text in texts or [None]]


def save(picture: Picture, path: Path, *, overwrite: bool) -> tuple[dict[str, Any], str]:
    """Write it: what JSON says of it, and the line."""
    notes = (*picture.notes, *picture.save(path, overwrite=overwrite))
    return {"path": str(path), "notes": list(notes), "warnings": list(picture.warnings)}, f"{path}{to_text(notes)}"


def to_names(requests: list[Request]) -> list[str]:
    """A file for each picture of each request."""
    several = len({request.start for request in requests}) > 1
    slugs = to_slugs([f"{Path(str(request.start)).stem} {request.prompt}" if several else request.prompt for request in requests])
    return [f"{slug}-{request.seed + index}.png" for slug, request in zip(slugs, requests, strict=True) for index in range(request.count)]


def load_model(choice: Choice, beside: Beside, likeness: Likeness | None) -> Model:
    """The model, in the numbers of the picture to make again unless others are asked for."""
    from ..core.device import name_dtype
    from ..pipelines.like import find_dtype

    model, dtype = choice.load(beside.to_extras()), likeness and find_dtype(likeness.provenance)
    again = dtype and choice.dtype == "auto" and dtype != name_dtype(model.placement.dtype)
    return replace(choice, dtype=dtype).load(beside.to_extras()) if again and dtype else model


def to_origin(likeness: Likeness, like: Path | None, model: Model, given: dict[str, Any]) -> dict[str, Any]:
    """The picture to make again, and why that will not be the same; what was asked for otherwise is not missed. It is shown as well."""
    from ..pipelines.like import compare

    missed = [
        text for name, text in likeness.missed.items() if given.get(name) is None or (name == "model" and given[name] == Choice.model)
    ]
    missed += compare(likeness.provenance, model)
    show_warnings([f"not as it was: {text}" for text in missed], str(like))
    return {"like": str(like), "missed": missed}


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
