"""The report of round trips: one page with the pictures, their error maps and the figures, and the figures as CSV and JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import OutputError
from ..core.files import refuse_existing, write_atomically
from ..core.versions import read_versions
from .heat import build_scale, to_heat
from .markup import to_html
from .page import build_figure, build_key, build_page, build_picture, build_plots, build_table
from .record import Row, summarise, to_csv, to_line, to_row
from .roundtrip import Lost, Trip
from .sheet import to_sheet
from .thumbnail import to_embedded, to_share

PAGES = (".html", ".htm")
KEY = 16  # pixels: the height of the key to the colours


@dataclass(frozen=True, kw_only=True)
class Plate:
    """The pictures of one source as addresses that a page can hold: the original, and for each autoencoder its decode and error map."""

    source: str
    size: tuple[int, int]
    original: str
    pairs: Mapping[str, tuple[str, str]]


def to_plate(trips: Sequence[Trip], pictures: int) -> Plate:
    """The pictures of one source, one trip an autoencoder; `pictures` is how many the whole page will hold, which share its size."""
    first, share = trips[0], to_share(pictures)
    return Plate(
        source=first.source,
        size=(first.original.width, first.original.height),
        original=to_embedded(first.original.image, share),
        pairs={trip.autoencoder: (to_embedded(trip.decoded.image, share), to_embedded(to_heat(trip.errors), share)) for trip in trips},
    )


def to_comparison(trips: Sequence[Trip]) -> Float[Tensor, "1 3 h w"]:
    """One picture for one source: the original, what each autoencoder made of it, and under that the error maps with their key."""
    original = trips[0].original
    key = torch.ones_like(original.image)
    key[..., -KEY:, :] = build_scale(original.width, min(original.height, KEY))
    names = [f"{trip.autoencoder}, cycle {trip.cycle}: {to_line(to_row(trip))}" for trip in trips]
    images = [original.image, *(trip.decoded.image for trip in trips), key, *(to_heat(trip.errors) for trip in trips)]
    labels = [Path(original.source).name, *names, "FLIP error, 0 to 1", *(trip.autoencoder for trip in trips)]
    return to_sheet(images, columns=len(trips) + 1, labels=labels)


def to_files(path: Path) -> tuple[Path, Path, Path]:
    """The page, the CSV and the JSON of a report. Raises OutputError for a page that is not named like one."""
    if path.suffix.lower() not in PAGES:
        raise OutputError(f"{path}: a report is a page, {' or '.join(PAGES)}", hint="--report report.html")
    return path, path.with_suffix(".csv"), path.with_suffix(".json")


def write_report(
    path: str | Path, rows: Sequence[Row], plates: Sequence[Plate], lost: Sequence[Lost] = (), *, overwrite: bool = False
) -> None:
    """Write NAME.html with NAME.csv and NAME.json beside it; `rows` are those of `record.to_row`.

    All pictures of the page together take at most 36 MiB, whatever their number: see `thumbnail`. Each file is written atomically.
    Raises OutputError, for one that is there before any is written.
    """
    page, table, data = to_files(Path(path))
    for file in (page, table, data):
        refuse_existing(file, overwrite=overwrite)
    failures = [{"source": one.source, "autoencoder": one.autoencoder, "error": to_words(one.error)} for one in lost]
    record = {"results": list(rows), "means": summarise(rows), "failures": failures, "versions": read_versions()}
    write_text(table, to_csv(rows), overwrite=overwrite)
    write_text(data, json.dumps(record, allow_nan=False, indent=1) + "\n", overwrite=overwrite)
    write_text(page, to_page(rows, plates, lost), overwrite=overwrite)


def write_text(path: Path, text: str, *, overwrite: bool) -> None:
    with write_atomically(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))  # file names need not be valid text


def to_page(rows: Sequence[Row], plates: Sequence[Plate], lost: Sequence[Lost]) -> str:
    """The report as HTML: the means, then a section for each picture."""
    means = build_table(summarise(rows), {"autoencoder": "Autoencoder", "space": "Space", "cycle": "Cycle", "pictures": "Pictures"})
    sections = [to_section(plate, [row for row in rows if row["source"] == plate.source]) for plate in plates]
    return build_page("Round trips", [means, *to_failures(lost), *sections])


def to_section(plate: Plate, rows: Sequence[Row]) -> str:
    notes = "; ".join(dict.fromkeys(note for row in rows for note in row["notes"]))
    last = {row["autoencoder"]: row for row in rows}
    figures = [build_figure("original", build_picture(plate.original, "original", plate.size), build_key())]
    for name, (decoded, errors) in plate.pairs.items():
        cycle = last[name]["cycle"]
        pictures = (build_picture(decoded, f"through {name}", plate.size), build_picture(errors, f"errors of {name}", plate.size))
        caption = f"{name}, after {cycle} cycle{'s' if cycle > 1 else ''}: {to_line(last[name])}"
        figures.append(build_figure(caption, *pictures))
    parts = [
        f"<h2>{to_html(plate.source)}</h2>",
        f'<p class="notes">{plate.size[0]}x{plate.size[1]}{to_html("; " + notes if notes else "")}</p>',
        f'<div class="row">{"".join(figures)}</div>',
        build_table(rows, {"autoencoder": "Autoencoder", "cycle": "Cycle"}),
        build_plots(rows) if max(row["cycle"] for row in rows) > 1 else "",
    ]
    return f"<section>{''.join(parts)}</section>"


def to_failures(lost: Sequence[Lost]) -> list[str]:
    names = [f"{one.source} ({one.autoencoder})" if one.autoencoder else one.source for one in lost]
    return [f'<p class="error">{to_html(f"{name}: {to_words(one.error)}")}</p>' for name, one in zip(names, lost, strict=True)]


def to_words(error: Exception) -> str:
    return str(error) or type(error).__name__
