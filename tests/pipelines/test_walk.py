"""Walks between pictures and between prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eightfold.codec.pixels import Picture, read_picture
from eightfold.core.errors import RequestError, UnknownWord
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.request import Request
from eightfold.pipelines.walk import fit, to_pairs, to_shares, walk_images, walk_prompts
from pocketfile import write_photo

CUBE = Request(prompt="a red cube", size=(24, 32), steps=2, seed=4)


def test_shares_go_from_end_to_end() -> None:
    assert to_shares(2) == [0, 1]
    assert to_shares(5) == [0, 0.25, 0.5, 0.75, 1]
    for frames in (1, 0, -3, 1001):
        with pytest.raises(RequestError, match="frames"):
            to_shares(frames)


def test_pictures_of_different_sizes(model: Model, tmp_path: Path) -> None:
    start = write_photo(tmp_path / "one.png", 45, 30)
    end = write_photo(tmp_path / "two.png", 20, 50, seed=1)
    frames = list(walk_images(model.codec, start, end, 3))
    assert [(frame.number, frame.total, frame.share) for frame in frames] == [(1, 3, 0), (2, 3, 0.5), (3, 3, 1)]
    assert all(frame.latent.shape == frame.pixel.shape == (1, 3, 30, 45) for frame in frames)
    ends = [
        model.codec.decode(model.codec.encode(picture)).image
        for picture in (read_picture(start), fit(read_picture(end), read_picture(start)))
    ]
    for frame, image in ((frames[0], ends[0]), (frames[2], ends[1])):
        assert torch.allclose(frame.latent, image, atol=1e-3)
        assert torch.equal(frame.pixel, image)
    assert torch.allclose(frames[1].pixel, (ends[0] + ends[1]) / 2, atol=1e-6)
    assert not torch.allclose(frames[1].latent, frames[1].pixel, atol=1e-3)
    assert [pair.shape for pair in to_pairs(frames)] == [(1, 3, 30, 90)] * 3
    assert torch.equal(to_pairs(frames)[1][..., :45], frames[1].latent)


def test_prompts(model: Model) -> None:
    ball = replace(CUBE, prompt="a blue ball", seed=99, count=3)  # the seed of the first holds for all
    frames = list(walk_prompts(model, CUBE, ball, 3))
    for frame, prompt in ((frames[0], "a red cube"), (frames[2], "a blue ball")):
        *_, last = model.generate(replace(CUBE, prompt=prompt))
        assert torch.equal(frame.latent, last.images[0].image)
        assert torch.equal(frame.pixel, last.images[0].image)
    assert not torch.equal(frames[1].latent, frames[1].pixel)


def test_both_prompts_are_checked_before_the_work(model: Model) -> None:
    with pytest.raises(UnknownWord, match="zebra"):
        next(walk_prompts(model, CUBE, replace(CUBE, prompt="a zebra"), 3))
    with pytest.raises(RequestError, match="different sizes"):
        next(walk_prompts(model, CUBE, replace(CUBE, size=(8, 8)), 3))


@pytest.mark.parametrize("size", [(45, 30), (10, 70), (300, 20), (1, 1), (90, 60)])
def test_fitting_covers_and_keeps_the_middle(size: tuple[int, int]) -> None:
    target = Picture(torch.zeros(1, 3, 30, 45))
    width, height = size
    image = torch.linspace(-1, 1, width).expand(1, 3, height, width).clone()
    fitted = fit(Picture(image, alpha=torch.ones(1, 1, height, width)), target).image
    assert fitted.shape == (1, 3, 30, 45) and fitted.abs().max() <= 1
    row = fitted[0, 0, 15]
    assert (row.diff() >= -1e-4).all()
    assert abs(row.mean() - image.mean()) < 0.05  # as much is cut off on either side


def test_a_picture_that_fits_is_left_alone() -> None:
    picture = Picture(torch.zeros(1, 3, 4, 5))
    assert fit(picture, picture) is picture
