"""The figures of round trips as rows: for JSON, for CSV, and their means."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

from .roundtrip import Trip

Row = dict[str, Any]
CHANNELS = ("red", "green", "blue")
SINGLE, THREEFOLD = ("psnr", "ssim", "flip"), ("mean_shift", "contrast")
COLUMNS = ("source", "autoencoder", "space", "cycle", *SINGLE, *(f"{name}_{channel}" for name in THREEFOLD for channel in CHANNELS))
ORIGIN = ("width", "height", "reading", "device", "dtype", "encoder", "decoder", "notes")


def to_row(trip: Trip) -> Row:
    """One cycle as JSON holds it: null where a figure is infinite, three values a colour channel in the order red, green, blue."""
    figures = trip.figures
    row: Row = {"source": trip.source, "autoencoder": trip.autoencoder, "space": trip.space, "cycle": trip.cycle}
    row |= {"psnr": to_number(figures.psnr), "ssim": figures.ssim, "flip": figures.flip}
    row |= {"mean_shift": list(figures.mean_shift), "contrast": [to_number(value) for value in figures.contrast]}
    row |= {"width": trip.latent.width, "height": trip.latent.height, "reading": trip.latent.reading}
    row |= {"device": trip.device, "dtype": trip.dtype, "placement": trip.placement}
    return {**row, "encoder": trip.encoder, "decoder": trip.decoder, "notes": list(trip.notes)}


def to_number(value: float) -> float | None:
    """JSON knows no infinity (the PSNR of equal pictures)."""
    return value if math.isfinite(value) else None


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Means over the pictures, for each autoencoder after its first and its last cycle. The mean with an infinite figure is infinite."""
    last = max((row["cycle"] for row in rows), default=1)
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if row["cycle"] in (1, last):
            groups.setdefault((row["autoencoder"], row["cycle"]), []).append(row)
    return [average(name, cycle, group) for (name, cycle), group in groups.items()]


def average(autoencoder: str, cycle: int, rows: Sequence[Row]) -> Row:
    means: Row = {"autoencoder": autoencoder, "space": rows[0]["space"], "cycle": cycle, "pictures": len(rows)}
    means |= {name: to_mean(row[name] for row in rows) for name in SINGLE}
    return means | {name: [to_mean(values) for values in zip(*(row[name] for row in rows), strict=True)] for name in THREEFOLD}


def to_mean(values: Iterable[float | None]) -> float | None:
    finite: list[float] = []
    for value in values:
        if value is None:
            return None
        finite.append(value)
    return sum(finite) / len(finite)


def to_csv(rows: Iterable[Row]) -> str:
    """The rows with one column a figure, `inf` where JSON has null; notes are joined by semicolons."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *ORIGIN])
    for row in rows:
        flat = flatten(row)
        writer.writerow([flat[name] for name in (*COLUMNS, *ORIGIN)])
    return text.getvalue()


def flatten(row: Mapping[str, Any]) -> Row:
    flat = {**row, "notes": "; ".join(row["notes"])}
    for name in THREEFOLD:
        flat |= {f"{name}_{channel}": value for channel, value in zip(CHANNELS, row[name], strict=True)}
    return {name: "inf" if value is None else value for name, value in flat.items()}


def to_texts(row: Mapping[str, Any]) -> dict[str, str]:
    """The figures of a row, or of means, as people read them."""
    decimals = {"psnr": ".2f", "ssim": ".4f", "flip": ".4f", "mean_shift": "+.2f", "contrast": ".3f"}

    def show(name: str, value: float | None) -> str:
        return "inf" if value is None else format(value, decimals[name])

    return {name: show(name, row[name]) for name in SINGLE} | {
        name: " ".join(show(name, value) for value in row[name]) for name in THREEFOLD
    }


def to_line(row: Mapping[str, Any]) -> str:
    """The three figures of the whole picture on one line."""
    texts = to_texts(row)
    return f"PSNR {texts['psnr']} dB, SSIM {texts['ssim']}, FLIP {texts['flip']}"
