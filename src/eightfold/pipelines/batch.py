"""Many files to latents or back: reading, computing and writing overlap, a bad file leaves the others, and what is done is skipped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from ..codec.codec import Codec
from ..codec.latentfile import Latent, read_latent
from ..codec.pixels import Picture, read_picture
from ..core.device import name_dtype
from ..core.errors import EightfoldError, ImageError
from ..core.files import refuse_existing
from ..core.progress import Progress
from ..specs.space import Reading
from .belonging import check_latent
from .jobs import Job
from .origin import Origin, hash_file, read_latent_origin, read_picture_origin, read_stamp, require_same
from .overlap import overlap

Facts = dict[str, Any]
RATE = "images/s"


@dataclass(frozen=True, kw_only=True, eq=False)
class Done:
    """What became of a job: made, with `facts` about the result and `warnings`; `skipped`, because it was done before; or an `error`.

    `seconds` passed since the job before it was done: they add up to the whole, though jobs overlap. `progress` counts jobs, and has the
    images made a second in the time that making them took.
    """

    job: Job
    facts: Mapping[str, Any]
    warnings: tuple[str, ...]
    skipped: bool
    error: Exception | None
    seconds: float
    progress: Progress


@dataclass(frozen=True, kw_only=True, eq=False)
class Craft:
    """How one kind of result is made of one kind of source, in three stages, and how it says what it was made of."""

    task: str
    settings: Mapping[str, str]
    read_origin: Callable[[Path], Origin]
    read: Callable[[Path], Any]
    work: Callable[[Path, Any], Any]
    write: Callable[[Path, Any, Origin], tuple[Facts, tuple[str, ...]]]
    overwrite: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Passed:
    """A job on its way from one stage to the next."""

    job: Job
    content: Any = None
    origin: Origin = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    skipped: bool = False
    error: Exception | None = None


def encode_all(
    codec: Codec, jobs: Sequence[Job], *, reading: Reading | None = None, seed: int = 0, overwrite: bool = False
) -> Generator[Done, None, None]:
    """Pictures to latent files; yields what became of each job, in order.

    A target that is there is skipped if it was made of the same bytes by the same autoencoder with the same settings, as it says itself;
    any other is kept, which is an error of that job, unless `overwrite`. Stopping early (`close`) keeps what is finished.
    """
    reading = reading or "mode"
    settings = {"space": codec.space.name, "encoder": codec.encoder_fingerprint, "dtype": name_dtype(codec.dtype), "reading": reading}
    settings |= {"seed": str(seed)} if reading == "sample" else {}
    settings |= to_fast(codec)

    def work(_: Path, picture: Picture) -> tuple[Latent, tuple[str, ...]]:
        return codec.encode(picture, reading=reading, seed=seed), picture.notes

    def write(target: Path, made: tuple[Latent, tuple[str, ...]], origin: Origin) -> tuple[Facts, tuple[str, ...]]:
        latent, notes = made
        replace(latent, origin=origin).save(target, overwrite=overwrite)
        facts: Facts = {"space": latent.space, "shape": list(latent.raw.shape[1:]), "width": latent.width, "height": latent.height}
        facts |= {"reading": latent.reading, "notes": [*notes, *latent.notes]}
        return facts | {"device": str(codec.device), "dtype": latent.dtype, "placement": latent.reason}, ()

    craft = Craft(
        task="encode",
        settings=settings,
        read_origin=read_latent_origin,
        read=read_picture,
        work=work,
        write=write,
        overwrite=overwrite,
    )
    return run_jobs(craft, jobs)


def decode_all(
    codec: Codec, jobs: Sequence[Job], *, force: bool = False, assumed: bool = False, overwrite: bool = False
) -> Generator[Done, None, None]:
    """Latent files to pictures, as `encode_all`. `force`: see `Codec.decode`; `assumed`: nobody said that the codec is of this space.

    The latents are read where they are decoded, which names the file in every error; they are small, and in memory since they were hashed.
    """
    settings = {"space": codec.space.name, "decoder": codec.decoder_fingerprint, "dtype": name_dtype(codec.dtype)} | to_fast(codec)

    def work(source: Path, _: None) -> Picture:
        doubts = try_latent(codec, source) if assumed and not force else ()
        picture = codec.decode(source, force=force)
        return replace(picture, warnings=(*doubts, *picture.warnings))

    def write(target: Path, picture: Picture, origin: Origin) -> tuple[Facts, tuple[str, ...]]:
        record = json.loads(picture.metadata["eightfold"])
        metadata = {**picture.metadata, "eightfold": json.dumps(record | ({"origin": origin} if origin else {}))}
        notes = (*picture.notes, *replace(picture, metadata=metadata).save(target, overwrite=overwrite))
        facts: Facts = {"width": picture.width, "height": picture.height, "notes": list(notes), "warnings": list(picture.warnings)}
        # it may have been decoded in a wider dtype than was asked for
        facts |= {"device": str(codec.device), "dtype": record["dtype"], "placement": record["dtype_reason"]}
        return facts, picture.warnings

    craft = Craft(
        task="decode",
        settings=settings,
        read_origin=read_picture_origin,
        read=lambda _: None,
        work=work,
        write=write,
        overwrite=overwrite,
    )
    return run_jobs(craft, jobs)


def to_fast(codec: Codec) -> dict[str, str]:
    """Among the settings that a result was made with; nothing where it is exact."""
    return {"fast": "true"} if codec.engine.tiled else {}


def try_latent(codec: Codec, source: Path) -> tuple[str, ...]:
    """What trying says of a latent and an autoencoder whose space was assumed."""
    latent = read_latent(source, space=codec.space)
    return check_latent(codec, latent, str(source)) if latent.space == codec.space.name else ()


def run_jobs(craft: Craft, jobs: Sequence[Job]) -> Generator[Done, None, None]:
    def read(job: Job) -> Passed:
        return guard(Passed(job=job), lambda passed: read_source(craft, passed.job))

    def work(passed: Passed) -> Passed:
        return guard(passed, lambda given: replace(given, content=craft.work(given.job.source, given.content)))

    def write(passed: Passed) -> Passed:
        return guard(passed, lambda given: write_target(craft, given))

    made, busy, last = 0, 0.0, perf_counter()
    with closing(overlap(jobs, read, work, write)) as passing:
        for number, passed in enumerate(passing, 1):
            now = perf_counter()
            seconds, last = now - last, now
            if passed.error is None and not passed.skipped:
                made, busy = made + 1, busy + seconds
            yield Done(
                job=passed.job,
                facts=passed.facts,
                warnings=passed.warnings,
                skipped=passed.skipped,
                error=passed.error,
                seconds=seconds,
                progress=Progress(task=craft.task, number=number, total=len(jobs), figures={RATE: made / busy} if made else {}),
            )


def guard(passed: Passed, step: Callable[[Passed], Passed]) -> Passed:
    """The next stage of a job that still needs it; what goes wrong with one file is its job's error."""
    if passed.skipped or passed.error is not None:
        return passed
    try:
        return step(passed)
    except (EightfoldError, MemoryError, RuntimeError) as error:  # torch says RuntimeError where memory runs out
        return Passed(job=passed.job, error=error)


def read_source(craft: Craft, job: Job) -> Passed:
    """The content of the source, and what the result will say that it was made of. Skipped, without reading it, if that is done."""
    if job.error is not None:
        raise job.error
    before = read_stamp(job.source)
    if not craft.overwrite and os.path.lexists(job.target):
        found = craft.read_origin(job.target)
        if not found:
            refuse_existing(job.target, overwrite=False)
        require_same(job.target, job.source, {"source": hash_file(job.source), **craft.settings}, found)
        return Passed(job=job, skipped=True)
    content = craft.read(job.source)
    source = hash_file(job.source)
    if read_stamp(job.source) != before:
        raise ImageError(f"{job.source} was changed while it was read", hint="run the command again when it is complete")
    origin = {"source": source, **craft.settings} if source else {}
    return Passed(job=job, content=content, origin=origin)


def write_target(craft: Craft, passed: Passed) -> Passed:
    facts, warnings = craft.write(passed.job.target, passed.content, passed.origin)
    return replace(passed, content=None, facts=facts, warnings=warnings)
