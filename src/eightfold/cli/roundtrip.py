"""eightfold roundtrip: pictures through latent space and back, through one autoencoder or several, once or again and again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..core.errors import RequestError
from ..core.files import refuse_existing
from ..core.versions import read_versions
from .console import Outcome, say, show_notes, track
from .options import Choice, Naming, Output, Posterior, Whole, refuse_folder, to_text
from .transcode import load_codec, require

if TYPE_CHECKING:
    from ..codec.codec import Codec
    from ..pipelines.roundtrip import Lost, Trip


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Trial:
    """Which autoencoders, where.

    Parameters
    ----------
    vae
        An autoencoder file, pocket for the embedded one or pixels for none; once for each to compare. By default that of --model.
    space
        The latent space of an autoencoder whose weights fit several: sd or sdxl, sd3 or flux1. Once for all, or once for each --vae.
    model
        A model's name (pocket) or file, whose autoencoder is meant where there is no --vae.
    device
        auto, cpu, cuda, cuda:1, mps.
    dtype
        auto, float32, bfloat16 or float16.
    memory
        How much the process may take to encode and decode, such as 4GB; by default 80 % of what is free.
    """

    vae: Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)] = ()
    space: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    model: str = "pocket"
    device: str = "auto"
    dtype: str = "auto"
    memory: str | None = None

    def load(self) -> dict[str, Codec]:
        """By the names that the user gave them. Raises RequestError for one named twice, or spaces that do not go with them."""
        names = [str(path) for path in self.vae] or [self.model]
        if len(set(names)) < len(names):
            raise RequestError("an autoencoder is named twice", hint="give each --vae once")
        if len(self.space) not in (0, 1, len(names)):
            what = f"--space is given {len(self.space)} times for {len(names)} autoencoders"
            raise RequestError(what, hint="give it once for all, or once for each --vae in the same order")
        spaces = self.space if len(self.space) == len(names) else (self.space or (None,)) * len(names)
        return {name: self.load_one(name, space) for name, space in zip(names, spaces, strict=True)}

    def load_one(self, name: str, space: str | None) -> Codec:
        vae = Path(name) if self.vae else None
        choice = Choice(model=self.model, vae=vae, device=self.device, dtype=self.dtype, memory=self.memory)
        return load_codec(choice, Naming(space=space))


@dataclass(frozen=True, kw_only=True, eq=False)
class Account:
    """What became of one picture: the last trip through each autoencoder, every cycle as a row, and what failed."""

    last: dict[str, Trip] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)


def roundtrip(
    *image: Path,
    cycles: Whole = 1,
    report: Path | None = None,
    posterior: Posterior = Posterior(),
    trial: Trial = Trial(),
    output: Output = Output(),
) -> int:
    """Pictures through latent space and back: the original beside what returned, with PSNR, SSIM and FLIP.

    Parameters
    ----------
    image
        Picture files, or folders of them.
    cycles
        How often each picture goes there and back: every cycle encodes what the one before decoded.
    report
        A page, NAME.html, of all pictures with their error maps and figures, and the figures as NAME.csv and NAME.json beside it,
        instead of a sheet for each picture.
    """
    reading = posterior.to_reading()
    from ..pipelines.gather import list_pictures

    files = list_pictures(require(image, "eightfold roundtrip photo.jpg"))
    paths = to_pages(report, output) if report else output.to_paths([f"{path.stem}.roundtrip.png" for path in files])
    from ..pipelines.report import to_plate, write_report
    from ..pipelines.roundtrip import check_cycles, run_roundtrips

    check_cycles(cycles, posterior.seed)
    codecs, outcome, whole, plates = trial.load(), Outcome(), Account(), []
    places = dict.fromkeys(map(str, files), paths[0]) if report else dict(zip(map(str, files), paths, strict=True))
    runs = run_roundtrips(files, codecs, cycles=cycles, reading=reading, seed=posterior.seed)
    for source, group in groupby(track("round trip", runs, len(files) * len(codecs) * cycles), key=lambda one: one.source):
        account = read_account(group)
        for one in account.lost:
            with outcome.attempt(f"{source} ({one.autoencoder})" if one.autoencoder else source):
                raise one.error
        with outcome.attempt(source):
            if account.last and report:
                plates.append(to_plate([*account.last.values()], len(files) * (1 + 2 * len(codecs))))
            elif account.last:
                write_sheet(places[source], account, overwrite=output.overwrite)
            plain = len(codecs) == cycles == 1
            for row in account.rows:
                line = to_text_line(row, None if report or row is not account.rows[-1] else places[source], plain=plain)
                outcome.add({**row, "path": str(places[source])}, line, as_json=output.json)
            whole.rows.extend(account.rows)
        whole.lost.extend(account.lost)
    show_means(whole.rows, as_json=output.json)
    if report and whole.rows:
        write_report(report, whole.rows, plates, whole.lost, overwrite=output.overwrite)
        if not output.json:
            say(f"-> {', '.join(map(str, paths))}")
    code = outcome.finish(as_json=output.json, reason="; ".join(dict.fromkeys(codec.reason for codec in codecs.values())))
    show_notes(*(codec.engine for codec in codecs.values()))
    return code


def read_account(run: Iterable[Trip | Lost]) -> Account:
    """Of the trips of one picture, each let go of when the next cycle is there: pictures are large."""
    from ..pipelines.record import to_row
    from ..pipelines.roundtrip import Lost

    account = Account()
    for one in run:
        if isinstance(one, Lost):
            account.lost.append(one)
        else:
            account.rows.append(to_row(one))
            account.last[one.autoencoder] = one
    return account


def to_pages(report: Path, output: Output) -> list[Path]:
    """The page, the CSV and the JSON. Refuses what cannot be written, before any work."""
    from ..pipelines.report import to_files

    if output.out != Path():
        raise RequestError(f"--out {output.out} is for sheets, and --report makes none", hint="leave one out")
    paths = [*to_files(report)]
    for path in paths:
        refuse_existing(path, overwrite=output.overwrite)
        refuse_folder(path)
    return paths


def write_sheet(path: Path, account: Account, *, overwrite: bool) -> None:
    """The picture beside what came back; where there is more than one row to compare, with the error maps under them."""
    from ..codec.pixels import write_picture
    from ..pipelines.record import to_line
    from ..pipelines.report import to_comparison
    from ..pipelines.sheet import to_sheet

    trips, metadata = [*account.last.values()], {"eightfold": json.dumps({"results": account.rows, **read_versions()})}
    if len(account.rows) == 1:
        (trip,), metadata = trips, trips[0].decoded.metadata
        latent = "x".join(str(side) for side in trip.latent.raw.shape[1:])
        labels = [Path(trip.source).name, f"through {latent}: {to_line(account.rows[0])}"]
        sheet = to_sheet([trip.original.image, trip.decoded.image], columns=2, labels=labels)
    else:
        sheet = to_comparison(trips)
    write_picture(path, sheet, metadata=metadata, overwrite=overwrite)


def to_text_line(row: dict[str, Any], path: Path | None, *, plain: bool) -> str:
    """A row as the terminal shows it, with the file it is to be seen in."""
    from ..pipelines.record import to_line

    which = "" if plain else f"{row['autoencoder']}  cycle {row['cycle']}  "
    return f"{row['source']}  {which}{to_line(row)}" + (f"  -> {path}" if path else "") + to_text(row["notes"])


def show_means(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from ..pipelines.record import summarise, to_line

    if as_json or len({row["source"] for row in rows}) < 2:
        return
    for mean in summarise(rows):
        say(f"mean of {mean['pictures']} pictures  {mean['autoencoder']}  cycle {mean['cycle']}  {to_line(mean)}")
