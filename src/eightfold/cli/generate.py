"""eightfold generate: pictures from prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import OutputError, RequestError
from ..core.files import refuse_existing
from ..core.progress import Progress
from .console import Outcome, show_loading, show_notes, show_progress, show_warnings, warn
from .keeper import Keeper
from .options import (
    ANIMATIONS,
    PICTURES,
    Choice,
    Output,
    refuse_folder,
    to_placement,
    to_slugs,
    to_text,
)
from .sampling import Beginning, Beside, Sampling, Showing

if TYPE_CHECKING:
    from ..codec.codec import Codec
    from ..codec.pixels import Picture
    from ..pipelines.bundle import Model
    from ..pipelines.extras import Extras
    from ..pipelines.generate import GenerationStep
    from ..pipelines.job import Leg
    from ..pipelines.like import Likeness
    from ..pipelines.request import Request


def generate(
    *prompt: str,
    prompts: Path | None = None,
    like: Path | None = None,
    showing: Showing = Showing(),
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
    """
    likeness, extras = read_like(like, choice, beginning, beside) if like else (None, beside.to_extras())
    requests = to_requests([*prompt, *(read_prompts(prompts) if prompts else [])], sampling, beginning, likeness)
    paths = output.to_paths(to_names(requests))
    check_targets(showing, paths, overwrite=output.overwrite)
    with show_loading(choice.model):
        model = load_model(choice, extras, likeness, skips=beside.clip_skip is not None)
        show_warnings(model.warnings)
        decoder = load_decoder(showing, model)
        if showing.explain:
            return show_plans(model, requests, as_json=output.json)
        runs = [model.generate(request) for request in requests]  # every request is checked before the first step of any
    show_lengths(model, requests)
    record = to_origin(likeness, like, model, {**vars(choice), **vars(sampling), **vars(beginning), **vars(beside)}) if likeness else {}
    record |= to_placement(model.placement)
    outcome = Outcome()
    # a picture that cannot be written ends the run: the next ones would fare no better; those that are there stay
    with outcome.attempt("generate"):
        for result, line in draw(runs, requests, paths, Keeper(choice), showing, decoder, overwrite=output.overwrite):
            outcome.add({**result, **(record if "prompt" in result else {})}, line, as_json=output.json)
    code = outcome.finish(as_json=output.json, reason=model.placement.reason)
    show_notes(model.codec.engine)
    return code


def draw(
    runs: Sequence[Iterator[GenerationStep]],
    requests: Sequence[Request],
    paths: Sequence[Path],
    keeper: Keeper,
    showing: Showing,
    decoder: Codec | None,
    *,
    overwrite: bool,
) -> Iterator[tuple[dict[str, Any], str]]:
    """Draw and write everything: what JSON says of each file, and its line."""
    todo = iter(paths)
    strips: list[list[Picture]] = []
    warnings: dict[str, None] = {}
    with show_progress() as update, keeper:
        for index, (run, request) in enumerate(zip(runs, requests, strict=True)):
            keeper.begin(paths[sum(one.count for one in requests[:index]) :])
            for step in keeper.watch(run):
                update(Progress(task="generate", number=index * step.total + step.number, total=len(requests) * step.total))
                if showing.preview is not None:
                    step.preview(decoder).save(showing.preview, overwrite=True)
                if showing.film is not None:
                    strips += [[]] if step.is_first else []
                    strips[-1].append(step.decode())
                if step.is_last:
                    picture = step.images[-1]
                    warnings |= dict.fromkeys(picture.warnings)
                    result, line = save(picture, next(todo), overwrite=overwrite)
                    yield {"prompt": request.prompt, "seed": step.seed, "tokens": count_tokens(step), **result}, line
        if showing.film is not None:
            write_film(showing.film, strips, overwrite=overwrite)
            yield {"film": str(showing.film)}, str(showing.film)
    show_warnings(tuple(warnings))


def show_lengths(model: Model, requests: list[Request]) -> None:
    """A line for each prompt that takes more than one chunk."""
    from ..pipelines.prompts import note_lengths

    for note in dict.fromkeys(note for request in requests for note in note_lengths(request, model.text)):
        warn(f"note: {note}")


def count_tokens(step: GenerationStep) -> dict[str, list[int]]:
    """Of each prompt, chunk by chunk."""
    from ..pipelines.prompts import measure_prompts

    return {name: list(length.counts) for name, length in measure_prompts(step.job.plan, step.job.model.text).items()}


def load_decoder(showing: Showing, model: Model) -> Codec | None:
    """The small one that shows previews, if one was named."""
    if showing.preview_vae is None:
        return None
    if showing.preview is None:
        raise RequestError("--preview-vae is for --preview", hint="add --preview now.png")
    from ..pipelines.preview import load_preview

    return load_preview(showing.preview_vae, model.codec, model.placement)


def check_targets(showing: Showing, paths: list[Path], *, overwrite: bool) -> None:
    """Refuse what could not be written, before any work."""
    film = showing.film
    if film is not None:
        check_film(film, paths, overwrite=overwrite)
    if showing.preview is not None:
        check_preview(showing.preview, [*paths, *([film] if film else [])], overwrite=overwrite)


def show_plans(model: Model, requests: list[Request], *, as_json: bool) -> int:
    from ..pipelines.generate import resolve, warn_of_size
    from ..pipelines.prompts import measure_prompts, warn_of_prompts
    from ..pipelines.running import foresee

    outcome = Outcome()
    for request in requests:
        outline = resolve(model, request)
        record = {"model": model.source, "family": model.family.name, "edition": model.edition, **asdict(outline.plan)}
        record |= {"prediction": model.family.prediction, "notes": list(model.notes), **to_placement(model.placement)}
        record |= {"legs": [to_leg(leg) for leg in outline.legs], **foresee(model, outline.legs[0])}
        if model.refiner is not None:
            record |= {"refiner": model.refiner.source}
        record |= {"warnings": [*warn_of_size(outline.plan, model.family), *warn_of_prompts(outline.plan, model.family)]}
        lines = [f"{name:<16} {value}" for name, value in record.items() if value not in (None, "", []) and name != "warnings"]
        lengths = measure_prompts(outline.plan, model.text)
        record["tokens"] = {name: list(length.counts) for name, length in lengths.items()}
        record["room"] = lengths["prompt"].room
        lines += [f"{'tokens' if name == 'prompt' else f'{name} tokens':<16} {length}" for name, length in lengths.items()]
        if outline.decoding is not None:
            record["decoding"] = outline.decoding.to_json()
            lines += outline.decoding.to_lines()
        outcome.add(record, "\n".join(lines), as_json=as_json)
        show_warnings(record["warnings"])
    return outcome.finish(as_json=as_json)


def to_leg(leg: Leg) -> dict[str, Any]:
    """What is told of a part of a run."""
    shown = {"width": leg.width, "height": leg.height, "steps": leg.moves}
    return {**shown, "by": "refiner"} if leg.refines else shown


def check_preview(preview: Path, paths: list[Path], *, overwrite: bool) -> None:
    """Refuse a preview that could not be written, before any work. It is written again at every step."""
    if preview.suffix.lower() not in PICTURES:
        raise OutputError(f"--preview {preview}: unknown ending {preview.suffix!r}", hint=f"known: {' '.join(PICTURES)}")
    if preview.absolute() in [path.absolute() for path in paths]:
        raise OutputError(f"--preview {preview} is also the name of a result", hint="give the preview another name")
    refuse_existing(preview, overwrite=overwrite)
    refuse_folder(preview)


def read_like(path: Path, choice: Choice, beginning: Beginning, beside: Beside) -> tuple[Likeness, Extras]:
    """The request behind a picture, and the files beside its model: those that were given, else those that are found again."""
    from ..pipelines.again import find_again
    from ..pipelines.like import read_likeness

    likeness = read_likeness(path, begins=beginning.start is not None, masks=beginning.mask is not None)
    given = [name for name, value in {**vars(beside), **vars(beginning)}.items() if value not in (None, ())]
    again = find_again(likeness.provenance, choice.model, given=given)
    return again.repeat(likeness), again.join(beside.to_extras())


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


def load_model(choice: Choice, extras: Extras, likeness: Likeness | None, *, skips: bool) -> Model:
    """The model, in the numbers of the picture to make again, and reading its text as there, unless something else is asked for."""
    model = choice.load(extras)
    if likeness is None:
        return model
    from ..core.device import name_dtype
    from ..pipelines.again import skip_again
    from ..pipelines.like import find_dtype

    dtype = find_dtype(likeness.provenance)
    if dtype and choice.dtype == "auto" and dtype != name_dtype(model.placement.dtype):
        del model  # before the other takes its memory
        model = replace(choice, dtype=dtype).load(extras)
    return model if skips else skip_again(model, likeness.provenance)


def to_origin(likeness: Likeness, like: Path | None, model: Model, given: dict[str, Any]) -> dict[str, Any]:
    """The picture to make again, and why that will not be the same; what was asked for otherwise is not missed. It is shown as well."""
    from ..pipelines.again import to_skip
    from ..pipelines.like import compare

    asked = {name for name, value in given.items() if value is not None and value != () and (name, value) != ("model", Choice.model)}
    if to_skip(likeness.provenance, model.family.text) is not None:
        asked.add("clip_skip")
    missed = [text for name, text in likeness.missed.items() if name.partition(" ")[0] not in asked]
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
