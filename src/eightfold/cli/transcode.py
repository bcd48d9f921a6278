"""eightfold encode, decode: pictures to latents and back."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import AmbiguousCheckpoint, EightfoldError, RequestError
from ..core.progress import Progress
from .console import Outcome, show_loading, show_progress, show_warnings, warn
from .options import LATENTS, PICTURES, Choice, Flag, Naming, Output, Posterior, is_folder, to_text

if TYPE_CHECKING:
    from ..codec.codec import Codec
    from ..pipelines.batch import Done
    from ..pipelines.jobs import Job, Kind

LATENT = ".latent.safetensors"


def load_codec(choice: Choice, naming: Naming = Naming()) -> Codec:
    with show_loading(choice.model if choice.vae is None else str(choice.vae)):
        from ..pipelines.bundle import load_autoencoder

        return load_autoencoder(choice.vae or choice.model, space=naming.space, device=choice.device, dtype=choice.dtype)


def encode(
    *image: Path,
    posterior: Posterior = Posterior(),
    choice: Choice = Choice(),
    naming: Naming = Naming(),
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

    jobs, many = plan(require(image, "eightfold encode photo.jpg"), output, build_kinds()[0], LATENTS)
    reading, codec = posterior.to_reading(), load_codec(choice, naming)
    from ..pipelines.batch import encode_all

    def to_line(path: Path, facts: dict[str, Any]) -> str:
        shape = "x".join(map(str, facts["shape"]))
        return f"{path}  {shape} ({facts['space']}) of {facts['width']}x{facts['height']}, {facts['reading']}"

    run = encode_all(codec, jobs, reading=reading, seed=posterior.seed, overwrite=output.overwrite)
    return report_batch(run, Progress(task="encode", number=0, total=len(jobs)), codec.reason, to_line, as_json=output.json, many=many)


def decode(
    *latent: Path,
    force: Flag = False,
    choice: Choice = Choice(),
    naming: Naming = Naming(),
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

    jobs, many = plan(require(latent, f"eightfold decode photo{LATENT}"), output, build_kinds()[1], PICTURES)
    codec, assumed = load_decoder(choice, naming, [job.source for job in jobs])
    from ..pipelines.batch import decode_all

    def to_line(path: Path, facts: dict[str, Any]) -> str:
        return f"{path}  {facts['width']}x{facts['height']}"

    run = decode_all(codec, jobs, force=force, assumed=assumed, overwrite=output.overwrite)
    return report_batch(run, Progress(task="decode", number=0, total=len(jobs)), codec.reason, to_line, as_json=output.json, many=many)


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
    reason: str,
    to_line: Callable[[Path, dict[str, Any]], str],
    *,
    as_json: bool,
    many: bool,
) -> int:
    """Show what becomes of each job, and of many the failures and the count at the end; the exit code."""
    outcome, made, skipped, rate = Outcome(late=many), 0, 0, 0.0
    with show_progress() as update, closing(run):
        update(begin)
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
    code = outcome.finish(as_json=as_json, reason=reason if made else "")
    if many:
        counts = {f"{begin.task}d": made, "already there": skipped, "failed": outcome.failed}
        text = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name.startswith(begin.task))
        warn(f"{text}; {rate:.3g} images/s" if made else text)
    return code


def load_decoder(choice: Choice, naming: Naming, latents: list[Path]) -> tuple[Codec, bool]:
    """The autoencoder, and whether its space was assumed: where its tensors fit several and nobody says which, the latents' is taken."""
    try:
        return load_codec(choice, naming), False
    except AmbiguousCheckpoint:
        said = next(filter(None, map(read_space, latents)), None)
        if said is None:
            raise
        return load_codec(choice, Naming(space=said)), True


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
