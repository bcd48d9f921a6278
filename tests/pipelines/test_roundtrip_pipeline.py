"""Round trips through several autoencoders, several times."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eightfold.codec.codec import Codec
from eightfold.codec.load import load_codec
from eightfold.codec.pixels import Picture, write_picture
from eightfold.core.errors import ImageError, RequestError
from eightfold.metrics.pixels import psnr, ssim
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.roundtrip import Lost, Trip, run_roundtrips
from eightfold.pipelines.transcode import roundtrip
from pocketfile import write_photo


@pytest.fixture
def codecs(model: Model) -> dict[str, Codec]:
    return {"nothing": load_codec("pixels"), "ours": model.codec}


def test_pictures_times_autoencoders_times_cycles(codecs: dict[str, Codec], tmp_path: Path) -> None:
    paths = [write_photo(tmp_path / f"{name}.png", 27, 18, seed=seed) for seed, name in enumerate("ab")]
    trips = list(run_roundtrips(paths, codecs, cycles=2))
    assert all(isinstance(trip, Trip) for trip in trips)
    expected = [(str(path), name, cycle) for path in paths for name in codecs for cycle in (1, 2)]
    assert [(trip.source, trip.autoencoder, trip.cycle) for trip in trips] == expected
    for trip in trips:
        assert trip.space == codecs[trip.autoencoder].space.name and trip.encoder == codecs[trip.autoencoder].encoder_fingerprint
        assert (trip.decoded.width, trip.decoded.height) == (27, 18) == tuple(trip.errors.shape[::-1])
        assert trip.figures.flip == pytest.approx(float(trip.errors.mean()), abs=1e-6)
        assert trip.figures.psnr == psnr(trip.original.image, trip.decoded.image)
        assert trip.figures.ssim == ssim(trip.original.image, trip.decoded.image)
        assert len(trip.figures.mean_shift) == len(trip.figures.contrast) == 3


def test_the_first_cycle_is_a_plain_round_trip(codecs: dict[str, Codec], tmp_path: Path) -> None:
    path = write_photo(tmp_path / "photo.png", 40, 24)
    (trip,) = run_roundtrips([path], {"ours": codecs["ours"]}, reading="sample", seed=5)
    assert isinstance(trip, Trip)
    plain = roundtrip(codecs["ours"], path, reading="sample", seed=5)
    assert torch.equal(trip.decoded.image, plain.decoded.image) and trip.figures.psnr == plain.psnr


def test_a_cycle_is_what_a_saved_file_would_give(codecs: dict[str, Codec], tmp_path: Path) -> None:
    path = write_photo(tmp_path / "photo.png", 40, 24, alpha=True)
    first, second = run_roundtrips([path], {"ours": codecs["ours"]}, cycles=2)
    assert isinstance(first, Trip) and isinstance(second, Trip)
    write_picture(tmp_path / "between.png", first.decoded.image)
    by_hand = roundtrip(codecs["ours"], tmp_path / "between.png")
    assert torch.equal(second.decoded.image, by_hand.decoded.image) and second.decoded.alpha is not None
    assert second.figures.psnr == psnr(first.original.image, by_hand.decoded.image) != by_hand.psnr


def test_every_cycle_draws_anew(codecs: dict[str, Codec], tmp_path: Path) -> None:
    path = write_photo(tmp_path / "photo.png", 16, 16)
    trips = list(run_roundtrips([path], {"ours": codecs["ours"]}, cycles=2, reading="sample", seed=3))
    assert [trip.latent.seed for trip in trips if isinstance(trip, Trip)] == [3, 4]


def test_pixels_lose_nothing_however_often(codecs: dict[str, Codec], tmp_path: Path) -> None:
    path = write_photo(tmp_path / "photo.png", 21, 13)
    *_, last = run_roundtrips([path], {"nothing": codecs["nothing"]}, cycles=3)
    assert isinstance(last, Trip)
    figures = last.figures
    assert (figures.psnr, figures.ssim, figures.flip) == (math.inf, 1, 0)
    assert figures.mean_shift == (0, 0, 0) and figures.contrast == (1, 1, 1)


class Fading:
    """A codec that makes every picture darker and flatter by known amounts."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    def __getattr__(self, name: str) -> object:
        return getattr(self.codec, name)

    def decode(self, latent: object) -> Picture:
        picture = self.codec.decode(latent)  # type: ignore[arg-type]
        return replace(picture, image=picture.image * 0.8 - 0.1)


def test_every_cycle_is_measured_against_the_original(codecs: dict[str, Codec], tmp_path: Path) -> None:
    path = tmp_path / "ramp.png"
    Image.fromarray(np.repeat(np.arange(0, 250, dtype=np.uint8)[None, :, None], 3, axis=-1).repeat(4, axis=0)).save(path)
    trips = list(run_roundtrips([path], {"fading": Fading(codecs["nothing"])}, cycles=3))  # type: ignore[dict-item]
    figures = [trip.figures for trip in trips if isinstance(trip, Trip)]
    assert [one.contrast[0] for one in figures] == pytest.approx([0.8, 0.64, 0.512], abs=0.003)
    levels, mean = [], 124.5
    for _ in figures:
        mean = 0.8 * mean + 0.1 * 127.5  # of (level / 127.5 - 1) * 0.8 - 0.1
        levels.append(mean - 124.5)
    assert [one.mean_shift[2] for one in figures] == pytest.approx(levels, abs=0.3)
    assert figures[0].psnr > figures[1].psnr > figures[2].psnr
    assert figures[0].flip < figures[1].flip < figures[2].flip


def test_what_fails_leaves_the_others(codecs: dict[str, Codec], tmp_path: Path) -> None:
    good, bad = write_photo(tmp_path / "good.png", 16, 16), tmp_path / "bad.png"
    bad.write_text("this is no picture")

    class Broken(Fading):
        def decode(self, latent: object) -> Picture:
            raise RuntimeError("out of memory")

    run = run_roundtrips([bad, good], {"broken": Broken(codecs["ours"]), **codecs})  # type: ignore[dict-item]
    unread, broken, *trips = run
    assert isinstance(unread, Lost) and (unread.source, unread.autoencoder) == (str(bad), "") and isinstance(unread.error, ImageError)
    assert isinstance(broken, Lost) and (broken.source, broken.autoencoder) == (str(good), "broken")
    assert [trip.autoencoder for trip in trips] == ["nothing", "ours"] and all(isinstance(trip, Trip) for trip in trips)


@pytest.mark.parametrize(("cycles", "seed"), [(0, 0), (-1, 0), (1001, 0), (1, -1), (2, 2**63 - 1)])
def test_impossible_numbers(codecs: dict[str, Codec], cycles: int, seed: int) -> None:
    with pytest.raises(RequestError):
        list(run_roundtrips([], codecs, cycles=cycles, seed=seed))
