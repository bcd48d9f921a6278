"""The report: a page that stands alone, and the same figures as CSV and JSON."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from eightfold.codec.codec import Codec
from eightfold.codec.load import load_codec
from eightfold.codec.pixels import read_picture
from eightfold.core.errors import ImageError, OutputError
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.record import summarise, to_csv, to_row
from eightfold.pipelines.report import to_comparison, to_plate, write_report
from eightfold.pipelines.roundtrip import Lost, Trip, run_roundtrips
from pocketfile import write_photo

ODD = "a <b>\"quoted\" & 'odd'<i> \x07.png"
VOID = {"meta", "img", "br", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Reads a page strictly: every element closed, in order; keeps the tags with their attributes and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def list_attributes(self, tag: str, name: str) -> list[str | None]:
        return [attributes.get(name) for own, attributes in self.tags if own == tag]


@pytest.fixture
def codecs(model: Model) -> dict[str, Codec]:
    return {"pixels": load_codec("pixels"), '<script>alert("vae")</script>': model.codec}


def build_report(path: Path, pictures: list[Path], codecs: dict[str, Codec], cycles: int, **options: Any) -> list[dict[str, Any]]:
    trips = [trip for trip in run_roundtrips(pictures, codecs, cycles=cycles) if isinstance(trip, Trip)]
    plates = [
        to_plate([trip for trip in trips if trip.source == str(source) and trip.cycle == cycles], len(pictures) * (1 + 2 * len(codecs)))
        for source in pictures
    ]
    rows = [to_row(trip) for trip in trips]
    write_report(path, rows, plates, **options)
    return rows


def test_the_page_stands_alone_whatever_the_names(codecs: dict[str, Codec], tmp_path: Path) -> None:
    pictures = [write_photo(tmp_path / name, 40, 24, seed=seed) for seed, name in enumerate([ODD, "b.png"])]
    lost = [Lost(source="<i>c.png", autoencoder="", error=ImageError("<u>no picture</u>"))]
    build_report(tmp_path / "report.html", pictures, codecs, 3, lost=lost)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert not {"script", "b", "i", "u", "link", "iframe"} & {tag for tag, _ in page.tags}
    addresses = page.list_attributes("img", "src")
    assert len(addresses) == 2 * (1 + 2 * 2) and all(address and address.startswith("data:image/webp;base64,") for address in addresses)
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    assert any(policy and policy.startswith("default-src 'none'") for policy in page.list_attributes("meta", "content"))
    assert f"{tmp_path}/" + ODD.replace("\x07", "\\x07") in page.texts and str(tmp_path / "b.png") in page.texts
    assert any("<u>no picture</u>" in words for words in page.texts)
    assert [tag for tag, _ in page.tags].count("svg") == 2 * 2
    assert "prefers-color-scheme: dark" in text and "\\n" not in text


def test_one_cycle_needs_no_plot(codecs: dict[str, Codec], tmp_path: Path) -> None:
    build_report(tmp_path / "report.html", [write_photo(tmp_path / "a.png", 16, 16)], codecs, 1)
    assert "<svg" not in (tmp_path / "report.html").read_text()


def test_page_table_and_data_say_the_same(codecs: dict[str, Codec], tmp_path: Path) -> None:
    pictures = [write_photo(tmp_path / name, 33, 20, seed=seed) for seed, name in enumerate([ODD, "b,c.png"])]
    rows = build_report(tmp_path / "r.html", pictures, codecs, 2)
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["results"] == rows and data["means"] == summarise(rows) and data["failures"] == [] and "torch" in data["versions"]
    with open(tmp_path / "r.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows) == 8
    page = Page((tmp_path / "r.html").read_text())
    for line, row in zip(table, rows, strict=True):
        for name in ("source", "autoencoder", "space", "encoder", "decoder", "dtype"):
            assert line[name] == row[name]
        for name in ("psnr", "ssim", "flip"):
            assert line[name] == ("inf" if row[name] is None else repr(row[name]))
        for name in ("mean_shift", "contrast"):
            assert [float(line[f"{name}_{channel}"]) for channel in ("red", "green", "blue")] == row[name]
        if row["psnr"] is not None:
            assert f"{row['psnr']:.2f}" in page.texts and f"{row['flip']:.4f}" in page.texts


def test_means(codecs: dict[str, Codec], tmp_path: Path) -> None:
    pictures = [write_photo(tmp_path / f"{seed}.png", 24, 24, seed=seed) for seed in range(3)]
    name = list(codecs)[1]
    rows = [to_row(trip) for trip in run_roundtrips(pictures, codecs, cycles=3) if isinstance(trip, Trip)]
    means = {(mean["autoencoder"], mean["cycle"]): mean for mean in summarise(rows)}
    assert {*means} == {("pixels", 1), ("pixels", 3), (name, 1), (name, 3)}
    own = [row for row in rows if row["autoencoder"] == name and row["cycle"] == 3]
    mean = means[name, 3]
    assert mean["pictures"] == 3 and mean["psnr"] == pytest.approx(sum(row["psnr"] for row in own) / 3)
    assert mean["mean_shift"][2] == pytest.approx(sum(row["mean_shift"][2] for row in own) / 3)
    assert means["pixels", 1]["psnr"] is None and means["pixels", 1]["ssim"] == 1


def test_nothing_is_overwritten_unasked(codecs: dict[str, Codec], tmp_path: Path) -> None:
    pictures = [write_photo(tmp_path / "a.png", 8, 8)]
    (tmp_path / "r.json").write_text("mine")
    with pytest.raises(OutputError, match=r"r\.json exists"):
        build_report(tmp_path / "r.html", pictures, codecs, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "r.json"]
    build_report(tmp_path / "r.html", pictures, codecs, 1, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "r.csv", "r.html", "r.json"]
    with pytest.raises(OutputError, match="a report is a page"):
        write_report(tmp_path / "r.csv", [], [])


def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    source = "bad\udcff.png"
    (trip,) = run_roundtrips([write_photo(tmp_path / "a.png", 8, 8)], {"pixels": load_codec("pixels")})
    assert isinstance(trip, Trip)
    row, plate = {**to_row(trip), "source": source}, to_plate([trip], 3)
    write_report(tmp_path / "r.html", [row], [], [Lost(source=source, autoencoder="pixels", error=MemoryError())])
    assert "bad\\udcff.png (pixels): MemoryError" in Page((tmp_path / "r.html").read_text()).texts
    assert "bad\\udcff.png" in (tmp_path / "r.csv").read_text() and plate.size == (8, 8)


def test_an_infinite_contrast_is_inf(tmp_path: Path) -> None:
    (trip,) = run_roundtrips([write_photo(tmp_path / "a.png", 8, 8)], {"pixels": load_codec("pixels")})
    assert isinstance(trip, Trip)
    row = {**to_row(trip), "contrast": [None, 1.0, 1.0]}
    assert "inf,1.0,1.0" in to_csv([row]) and summarise([row])[0]["contrast"] == [None, 1.0, 1.0]


def test_a_comparison_shows_pictures_above_their_errors(codecs: dict[str, Codec], tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.png", 200, 30)
    trips = [trip for trip in run_roundtrips([path], codecs) if isinstance(trip, Trip)]
    sheet = to_comparison(trips)
    assert sheet.shape[-1] == 6 + 3 * 206
    original = read_picture(path).image
    for column in (0, 1):
        assert torch.equal(sheet[..., 6:36, 6 + 206 * column : 206 + 206 * column], original)
    errors = trips[1].errors
    assert float(errors.mean()) > 0
    below = sheet[..., 36:, 418:618].mean(dim=1)[0]
    dark = (below < -0.5).sum()
    assert int(dark) > 200 * 15  # an error map is dark, the paper around it is white
