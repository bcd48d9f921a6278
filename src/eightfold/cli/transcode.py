"""eightfold encode, decode: pictures to latents and back."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import AmbiguousCheckpoint, EightfoldError, RequestError
from ..core.memory import to_amount
from ..core.progress import Progress
from .console import Outcome, ask, show_loading, show_notes, show_progress, show_warnings, warn
from .options import LATENTS, PICTURES, Choice, Effort, Flag, Naming, Output, Posterior, is_folder, to_text

if TYPE_CHECKING:
    from ..codec.codec import Codec
    from ..codec.explain import Explanation, Task
    from ..pipelines.batch import Done
    from ..pipelines.jobs import Job, Kind

LATENT = ".latent.safetensors"


def load_codec(choice: Choice, naming: Naming = Naming(), effort: Effort = Effort()) -> Codec:
    with show_loading(choice.model if choice.vae is None else str(choice.vae)):
        codec = choice.load_autoencoder(naming.space)
    codec.engine.tiled = effort.fast
    codec.engine.approve = partial(approve_slow, yes=effort.yes)
    return codec


def encode(
    *image: Path,
    posterior: Posterior = Posterior(),
    choice: Choice = Choice(),
    naming: Naming = Naming(),
    effort: Effort = Effort(),
    output: Output = Output(),
) -> int:
    """Pictures to latent files, NAME.latent.safetensors.

    `--out NAME.latent` writes one that ComfyUI reads. With a folder, what is done is skipped: the same command goes on where it stopped.

    Parameters
    ----------
    image
        Picture files, or folders: then of all pictures in them and their folders, and the results are laid out alike.
    """
    from ..pipelines.jobs import build_kinds

    require(image, "eightfold encode photo.jpg")
    if effort.explain:
        return explain("encode", image, build_kinds()[0], load_codec(choice, naming), as_json=output.json)
    jobs, many = plan(image, output, build_kinds()[0], LATENTS)
    reading, codec = posterior.to_reading(), load_codec(choice, naming, effort)
    from ..pipelines.batch import encode_all

    def to_line(path: Path, facts: dict[str, Any]) -> str:
        shape = "x".join(map(str, facts["shape"]))
        return f"{path}  {shape} ({facts['space']}) of {facts['width']}x{facts['height']}, {facts['reading']}"

    run = encode_all(codec, jobs, reading=reading, seed=posterior.seed, overwrite=output.overwrite)
    return report_batch(run, Progress(task="encode", number=0, total=len(jobs)), codec, to_line, as_json=output.json, many=many)


def decode(
    *latent: Path,
    force: Flag = False,
    choice: Choice = Choice(),
    naming: Naming = Naming(),
    effort: Effort = Effort(),
    output: Output = Output(),
) -> int:
    """Latent files to pictures of the size that was encoded.

    With a folder, what is done is skipped: the same command goes on where it stopped.

    Parameters
    ----------
    latent
        Latent files, as `eightfold encode` writes them, or ComfyUI's (.latent), which go with any autoencoder of as many channels.
        Or folders: then all of them in them and their folders, and the results are laid out alike.
    force
        Decode although the latent belongs to another latent space; warned of, and recorded in the picture.
    """
    from ..pipelines.jobs import build_kinds

    require(latent, f"eightfold decode photo{LATENT}")
    if effort.explain:
        return explain("decode", latent, build_kinds()[1], load_decoder(choice, naming, [*latent], effort)[0], as_json=output.json)
    jobs, many = plan(latent, output, build_kinds()[1], PICTURES)
    codec, assumed = load_decoder(choice, naming, [job.source for job in jobs], effort)
    from ..pipelines.batch import decode_all

    def to_line(path: Path, facts: dict[str, Any]) -> str:
        return f"{path}  {facts['width']}x{facts['height']}"

    run = decode_all(codec, jobs, force=force, assumed=assumed, overwrite=output.overwrite)
    return report_batch(run, Progress(task="decode", number=0, total=len(jobs)), codec, to_line, as_json=output.json, many=many)


def plan(paths: tuple[Path, ...], output: Output, kind: Kind, suffixes: tuple[str, ...]) -> tuple[list[Job], bool]:
    """What to make of what, and whether it is a batch: with a folder among the paths. Without one, what is there already is refused."""
    from ..pipelines.jobs import Job, list_jobs

    if any(is_folder(path) for path in paths):
        return list_jobs(paths, output.to_folder(), kind), True
    targets = output.to_paths([kind.to_name(path.name) for path in paths], suffixes)
    return [Job(source=source, target=target) for source, target in zip(paths, targets, strict=True)], False


def report_batch(
    run: Generator[Done, None, None],
    begin: Progress,
    codec: Codec,
    to_line: Callable[[Path, dict[str, Any]], str],
    *,
    as_json: bool,
    many: bool,
) -> int:
    """Show what becomes of each job, and of many the failures and the count at the end; the exit code."""
    outcome, made, skipped, rate = Outcome(late=many), 0, 0, 0.0
    with show_progress() as update, closing(run):
        update(begin)
        codec.engine.watch = lambda share: update(replace(begin, number=len(outcome.results) + share))
        for done in run:
            source, path = str(done.job.source), done.job.target
            with outcome.attempt(source):
                if done.error is not None:
                    raise done.error
                show_warnings(done.warnings, source)
                result = {"source": source, "path": str(path), **done.facts, "skipped": done.skipped, "seconds": round(done.seconds, 3)}
                if done.skipped:
                    skipped += 1
                    outcome.results.append(result)
                else:
                    made, rate = made + 1, done.progress.figures["images/s"]
                    outcome.add(result, to_line(path, result) + to_text(result["notes"]), as_json=as_json)
            update(done.progress)
    code = outcome.finish(as_json=as_json, reason=codec.reason if made else "")
    show_notes(codec.engine)
    if many:
        counts = {f"{begin.task}d": made, "already there": skipped, "failed": outcome.failed}
        text = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name.startswith(begin.task))
        warn(f"{text}; {rate:.3g} images/s" if made else text)
    return code


def load_decoder(choice: Choice, naming: Naming, latents: list[Path], effort: Effort) -> tuple[Codec, bool]:
    """The autoencoder, and whether its space was assumed: where its tensors fit several and nobody says which, the latents' is taken."""
    try:
        return load_codec(choice, naming, effort), False
    except AmbiguousCheckpoint:
        said = next(filter(None, map(read_space, latents)), None)
        if said is None:
            raise
        return load_codec(choice, Naming(space=said), effort), True


def explain(task: Task, paths: tuple[Path, ...], kind: Kind, codec: Codec, *, as_json: bool) -> int:
    """Print the plan for each size among the files, once; the exit code."""
    from ..pipelines.jobs import list_jobs
    from ..pipelines.sizes import read_size

    outcome, seen = Outcome(), set[tuple[int, int]]()
    for job in list_jobs(paths, Path(), kind):
        with outcome.attempt(str(job.source)):
            size = read_size(task, job.source)
            found = codec.plan(task, *size) if size not in seen else None
            seen.add(size)
            if found is not None:
                outcome.add({"source": str(job.source), **found.to_json()}, "\n".join(found.to_lines()), as_json=as_json)
    return outcome.finish(as_json=as_json)


def approve_slow(found: Explanation, *, yes: bool) -> None:
    """Ask before a run that the bound on memory makes slow. Raises RequestError where nobody agrees."""
    times = f"about {found.seconds:.3g} s instead of {found.fastest.total_seconds:.3g} s"
    enough = to_amount(found.comfortable_bytes).replace(" ", "")
    what = f"in {to_amount(found.peak_bytes)} this takes {times}; --memory {enough} would avoid that"
    if not yes and not ask(f"{what}. Go on?"):
        raise RequestError(what, hint="--yes goes on all the same")


def read_space(latent: Path) -> str | None:
    """What the file says; nothing for one that cannot be read, which is reported in its turn."""
    from ..checkpoints.inventory import read_inventory

    try:
        return read_inventory(latent).metadata.get("eightfold.space")
    except EightfoldError:
        return None


def require(paths: tuple[Path, ...], example: str) -> tuple[Path, ...]:
    if not paths:
        raise RequestError("no file given", hint=f"name one or more, as in `{example}`")
    return paths
