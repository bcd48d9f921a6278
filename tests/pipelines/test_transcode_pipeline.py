"""Round trips, forward diffusion and spherical interpolation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.codec.pixels import read_picture
from eightfold.core.errors import ImageError, RequestError
from eightfold.families.pocket import POCKET_FAMILY
from eightfold.families.spaces import POCKET, SD
from eightfold.metrics.pixels import psnr, ssim
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.transcode import diffuse, find_process, roundtrip, slerp
from eightfold.specs.process import ScaledLinear
from pocketfile import write_photo
from toyspaces import TOYS, build_toy_codec
from weights import draw

shares = st.floats(0, 1)
seeds = st.integers(0, 10_000)


def to_angle(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.acos(min(max(float((a * b).sum() / (a.norm() * b.norm())), -1), 1))


@given(share=shares, seed=seeds)
@settings(max_examples=30)
def test_slerp_keeps_the_norm_and_divides_the_angle(share: float, seed: int) -> None:
    a, b = draw(1, 4, 3, 5, seed=seed).double(), draw(1, 4, 3, 5, seed=seed + 1).double()
    b = b * (a.norm() / b.norm())
    between = slerp(a, b, share)
    assert between.shape == a.shape and between.dtype == a.dtype
    assert abs(between.norm() / a.norm() - 1) < 1e-9
    assert abs(to_angle(a, between) - share * to_angle(a, b)) < 1e-6
    assert torch.allclose(between, slerp(b, a, 1 - share), atol=1e-9)


@given(seed=seeds, factor=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 7.0]))
@settings(max_examples=20)
def test_slerp_ends_are_exact(seed: int, factor: float) -> None:
    a, b = draw(2, 9, seed=seed), draw(2, 9, seed=seed + 1)
    for end in (b, factor * a):
        assert torch.equal(slerp(a, end, 0.0), a)
        assert torch.equal(slerp(a, end, 1.0), end)


@given(share=shares, seed=seeds, factor=st.floats(0, 5))
@settings(max_examples=20)
def test_slerp_is_straight_where_there_is_no_angle(share: float, seed: int, factor: float) -> None:
    a = draw(3, 7, seed=seed).double()
    assert torch.allclose(slerp(a, factor * a, share), (1 - share + share * factor) * a, atol=1e-5)
    assert torch.allclose(slerp(a, -a, share), (1 - 2 * share) * a, atol=1e-5)


def test_slerp_of_nothing() -> None:
    assert torch.equal(slerp(torch.zeros(3), torch.zeros(3), 0.3), torch.zeros(3))


def test_slerp_does_not_pass_through_a_wall() -> None:
    """Half-way between two draws of noise a straight line would be shorter by the square root of two."""
    a, b = draw(10_000, seed=1), draw(10_000, seed=2)
    assert abs(slerp(a, b, 0.5).std() - 1) < 0.03
    assert abs(((a + b) / 2).std() - 0.5**0.5) < 0.03


@pytest.mark.parametrize("size", [(45, 30), (129, 7), (1, 1)])
def test_round_trip(model: Model, tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_photo(tmp_path / "photo.png", *size)
    trip = roundtrip(model.codec, path)
    assert (trip.original.width, trip.original.height) == (trip.decoded.width, trip.decoded.height) == size
    assert torch.equal(trip.original.image, read_picture(path).image)
    assert torch.equal(trip.decoded.image, model.codec.decode(model.codec.encode(path)).image)
    assert trip.psnr == psnr(trip.original.image, trip.decoded.image)
    assert trip.ssim == ssim(trip.original.image, trip.decoded.image) and math.isfinite(trip.ssim)
    assert (trip.latent.width, trip.latent.height) == size


def test_round_trip_of_a_sampled_reading(model: Model, tmp_path: Path) -> None:
    path = write_photo(tmp_path / "photo.png", 16, 16)
    first, second, again = (roundtrip(model.codec, path, reading="sample", seed=seed).latent.raw for seed in (1, 2, 1))
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_noise_is_mixed_into_the_latent(model: Model, tmp_path: Path) -> None:
    path = write_photo(tmp_path / "photo.png", 45, 30)
    process = find_process(model.codec.space)
    clean, half, noisy = diffuse(model.codec, process, path, [0.0, 0.5, 1.0], seed=3)
    assert all((picture.width, picture.height) == (45, 30) for picture in (clean, half, noisy))
    assert torch.allclose(clean.image, roundtrip(model.codec, path).decoded.image, atol=1e-3)
    assert not torch.allclose(clean.image, half.image, atol=1e-2)
    (alone,) = diffuse(model.codec, process, path, [0.5], seed=3)
    assert torch.equal(alone.image, half.image)  # the noise does not depend on the other times
    (other,) = diffuse(model.codec, process, path, [0.5], seed=4)
    assert not torch.equal(other.image, half.image)


@pytest.mark.parametrize("name", TOYS)
def test_a_picture_to_start_from_in_every_space(name: str, tmp_path: Path) -> None:
    """As image to image begins: read as the space's own tools do, normalised, with noise of the shape that its denoiser sees."""
    codec, path = build_toy_codec(TOYS[name]), write_photo(tmp_path / "photo.png", 33, 18)
    start, noisy = diffuse(codec, ScaledLinear(), path, [0.0, 0.6], seed=3)
    latent = codec.encode(path, reading=codec.space.start_reading, seed=3)
    assert torch.allclose(start.image, codec.decode(latent).image, atol=1e-3)
    assert noisy.image.shape == start.image.shape == (1, 3, 18, 33) and (noisy.image - start.image).abs().mean() > 0.02
    assert json.loads(noisy.metadata["eightfold"])["reading"] == codec.space.start_reading
    (other,) = diffuse(codec, ScaledLinear(), path, [0.0], seed=4)
    assert torch.equal(other.image, start.image) == (codec.space.start_reading == "mode")


def test_impossible_times_seeds_and_files(model: Model, tmp_path: Path) -> None:
    path = write_photo(tmp_path / "photo.png", 8, 8)
    process = POCKET_FAMILY.process
    for t in (-0.1, 1.1, float("nan")):
        with pytest.raises(RequestError, match="expected 0"):
            list(diffuse(model.codec, process, path, [0.5, t]))
    with pytest.raises(RequestError, match="seed"):
        list(diffuse(model.codec, process, path, [0.5], seed=-1))
    with pytest.raises(ImageError, match="gone"):
        list(diffuse(model.codec, process, tmp_path / "gone.png", [0.5]))


def test_every_space_has_a_process() -> None:
    for space in (POCKET, SD):
        process = find_process(space)
        assert process.alpha(0.0) == 1 and process.sigma(0.0) == 0
