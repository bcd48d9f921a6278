"""Textures are repeatable, varied, and as busy at every scale as photographs are."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from eightfold.data.textures import KINDS, render_textures, to_kind


def find_indices(kind: str, count: int, seed: int = 1) -> list[int]:
    found = [index for index in range(count * 40) if to_kind(seed, index) == kind]
    return found[:count]


def measure_fall(images: torch.Tensor) -> float:
    """Power-law exponent of the mean amplitude spectrum of grey versions, between 3 and 40 cycles a picture."""
    grey = images.mean(dim=1).numpy()
    size = grey.shape[-1]
    window = np.hanning(size)[:, None] * np.hanning(size)[None]
    power = np.abs(np.fft.fft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * window)) ** 2
    cycles = np.hypot(*np.meshgrid(np.fft.fftfreq(size) * size, np.fft.fftfreq(size) * size))
    rings = [(low, math.sqrt(power[:, (cycles >= low) & (cycles < low * 1.3)].mean())) for low in 3 * 1.3 ** np.arange(10)]
    slope, _ = np.polyfit(np.log([ring[0] for ring in rings]), np.log([ring[1] for ring in rings]), 1)
    return -float(slope)


def test_range_shape_and_type() -> None:
    images = render_textures(1, range(12), 64)
    assert images.shape == (12, 3, 64, 64)
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()
    assert images.min() >= -1
    assert images.max() <= 1
    assert render_textures(1, [], 64).shape == (0, 3, 64, 64)


def test_a_picture_depends_on_seed_and_index_only() -> None:
    batch = render_textures(1, range(10), 64)
    again = render_textures(1, [7, 2], 64)
    assert torch.equal(again[0], batch[7])
    assert torch.equal(again[1], batch[2])
    assert len({picture.numpy().tobytes() for picture in batch}) == 10
    assert not torch.equal(render_textures(2, [7], 64)[0], batch[7])


def test_every_kind_occurs() -> None:
    found = Counter(to_kind(1, index) for index in range(600))
    assert set(found) == set(KINDS)
    assert min(found.values()) > 20


@pytest.mark.parametrize("kind", ["leaves", "noise", "mixed"])
def test_spectra_fall_about_as_one_over_frequency(kind: str) -> None:
    assert 0.7 < measure_fall(render_textures(1, find_indices(kind, 24))) < 1.7


def test_gradients_are_smooth_and_lines_are_not() -> None:
    def measure_roughness(kind: str) -> float:
        images = render_textures(1, find_indices(kind, 12))
        return (images[..., 1:] - images[..., :-1]).abs().flatten(1).quantile(0.98, dim=1).median().item()

    assert measure_roughness("gradient") < 0.06
    assert min(measure_roughness(kind) for kind in ("lines", "writing", "leaves")) > 0.2


def test_pictures_are_not_flat_and_cover_the_gamut() -> None:
    images = render_textures(3, range(150), 64)
    assert images.flatten(1).std(dim=1).quantile(0.05) > 0.02
    colours = (images[:, :, ::8, ::8].permute(0, 2, 3, 1).reshape(-1, 3) > 0).int()
    octants = Counter(tuple(colour) for colour in colours.tolist())
    assert len(octants) == 8
    assert min(octants.values()) > 0.002 * len(colours)
