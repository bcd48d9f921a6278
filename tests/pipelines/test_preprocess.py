"""What ControlNets are shown: edges as scikit-image finds them, one pixel wide; lines; maps of depth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import data, feature

from eightfold.codec.pixels import Picture
from eightfold.core.errors import ImageError, RequestError, UnknownName
from eightfold.pipelines.preprocess import PREPROCESSORS, blur, grow, list_settings, preprocess, sum_sobel, to_grey

SETTINGS = [{}, {"low": 20, "high": 60, "sigma": 2.0}, {"low": 50, "high": 100, "sigma": 0.6}, {"low": 0, "high": 300, "sigma": 0}]


def to_picture(pixels: np.ndarray) -> Picture:
    """Bytes, grey or in colours."""
    colours = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
    return Picture(torch.from_numpy(np.ascontiguousarray(colours)).permute(2, 0, 1)[None].float() / 127.5 - 1)


def draw(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def to_white(picture: Picture) -> np.ndarray:
    """Where it is white; everything else is black, and grey."""
    image = picture.image[0]
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
    assert {*image.unique().tolist()} <= {-1.0, 1.0}
    return image[0].numpy() > 0


def find_theirs(picture: Picture, low: float = 100, high: float = 200, sigma: float = 1.0) -> np.ndarray:
    return feature.canny(to_grey(picture) / 255, sigma=sigma, low_threshold=low / 255, high_threshold=high / 255)


@pytest.mark.parametrize("given", SETTINGS, ids=str)
@pytest.mark.parametrize("name", ["camera", "astronaut", "coins", "text"])
def test_edges_are_those_of_scikit_image(name: str, given: dict[str, float]) -> None:
    """Where no two neighbours change equally much: of those we keep one. Without a blur whole numbers do so, here and there."""
    picture = to_picture(getattr(data, name)())
    found, expected = to_white(preprocess("canny", picture, **given)), find_theirs(picture, **given)
    assert expected.sum() > 1000
    if given.get("sigma") == 0:
        assert (found != expected).mean() < 0.01
    else:
        assert np.array_equal(found, expected)


@given(height=st.integers(1, 30), width=st.integers(1, 30), seed=st.integers(0, 99), low=st.floats(0, 400), more=st.floats(0, 400))
@settings(max_examples=60)
def test_edges_of_noise(height: int, width: int, seed: int, low: float, more: float) -> None:
    """Equal to theirs at any size and thresholds; as many with sides swapped; and more of them at lower thresholds."""
    picture, told = to_picture(draw(height, width, seed)), {"low": low, "high": low + more}
    found = to_white(preprocess("canny", picture, **told))
    assert found.shape == (height, width)
    assert np.array_equal(found, find_theirs(picture, **told))
    assert np.array_equal(found, to_white(preprocess("canny", to_picture(draw(height, width, seed).T), **told)).T)
    assert not (found & ~to_white(preprocess("canny", picture, low=low / 2, high=low + more))).any()
    assert not (found & ~to_white(preprocess("canny", picture, low=low, high=low + more / 2))).any()


@pytest.mark.parametrize("sigma", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("turned", [False, True])
def test_an_edge_is_one_pixel_wide(sigma: float, turned: bool) -> None:
    """Both pixels beside a step change equally much."""
    step = np.zeros((20, 24), dtype=np.uint8)
    step[:, 11:] = 255
    found = to_white(preprocess("canny", to_picture(step.T if turned else step), sigma=sigma))
    found = found.T if turned else found
    assert found[1:-1].sum(axis=1).tolist() == [1] * 18
    assert found[1:-1, 10:12].any(axis=1).all()


def test_the_customary_thresholds_are_of_sobel_sums() -> None:
    """A step of s, unsmoothed, is 4 s."""
    step = np.zeros((9, 9), dtype=np.uint8)
    step[:, 4:] = 40
    assert not to_white(preprocess("canny", to_picture(step), low=100, high=161, sigma=0)).any()
    assert to_white(preprocess("canny", to_picture(step), low=100, high=159, sigma=0)).any()


def test_blur_and_gradients_are_those_of_scipy() -> None:
    grey = draw(17, 23).astype(float)
    expected = ndimage.gaussian_filter(grey, 1.7, mode="constant") / ndimage.gaussian_filter(np.ones_like(grey), 1.7, mode="constant")
    assert np.allclose(blur(grey, 1.7), expected, rtol=0, atol=1e-9)
    assert np.allclose(sum_sobel(grey), ndimage.sobel(grey, axis=1), rtol=0, atol=1e-9)


@given(seed=st.integers(0, 200), share=st.floats(0, 1))
@settings(max_examples=40)
def test_what_grows_is_what_hangs_together(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    weak = np.pad(random.random((14, 17)) < share, 1)
    seeds = weak & (random.random(weak.shape) < 0.05)
    labels, _ = ndimage.label(weak, np.ones((3, 3)))
    assert np.array_equal(grow(seeds, weak), np.isin(labels, labels[seeds]) & weak)


def test_lines_are_what_is_darker_than_around_it() -> None:
    paper = np.full((40, 60), 200, dtype=np.uint8)
    assert not to_white(preprocess("lines", to_picture(paper))).any()
    drawn = paper.copy()
    drawn[20:22, 5:55] = 30
    found = to_white(preprocess("lines", to_picture(drawn)))
    assert np.array_equal(found, drawn < 100)
    assert np.array_equal(to_white(preprocess("lines", to_picture(drawn - 25))), found)
    assert not to_white(preprocess("lines", to_picture(255 - drawn)))[20:22].any()
    assert not to_white(preprocess("lines", to_picture(drawn), threshold=180)).any()


def test_depth_goes_from_black_to_white() -> None:
    levels = np.tile(np.arange(100, 150, dtype=np.uint8), (4, 1))
    depth = preprocess("depth", to_picture(levels)).image
    assert (depth.min(), depth.max()) == (-1, 1)
    assert torch.allclose(depth[0, 0, 0], torch.linspace(-1, 1, 50), atol=1e-6)
    assert torch.allclose(preprocess("depth", to_picture(levels), invert=True).image, -depth, atol=1e-6)
    assert torch.equal(preprocess("depth", Picture(depth)).image, depth)


def test_depth_that_is_none() -> None:
    with pytest.raises(ImageError, match="one brightness"):
        preprocess("depth", to_picture(np.full((4, 4), 7, dtype=np.uint8)))
    with pytest.raises(ImageError, match=r"photo\.png has colours in 100%"):
        preprocess("depth", Picture(to_picture(np.full((4, 4, 3), (200, 30, 30), dtype=np.uint8)).image, source="photo.png"))
    grey = np.stack([draw(20, 20)] * 3, axis=-1)
    grey[0, 0] = (255, 0, 0)  # what a compressed file may have here and there
    preprocess("depth", to_picture(grey))


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_every_one_keeps_size_and_source(name: str) -> None:
    for height, width in ((1, 2), (2, 1), (3, 3), (13, 8)):
        picture = Picture(to_picture(draw(height, width)).image, source="a.png")
        made = preprocess(name, picture)
        assert (made.image.shape, made.source) == (picture.image.shape, "a.png")
        assert made.image.dtype == torch.float32


def test_what_can_be_seen_through_is_white() -> None:
    clear = torch.zeros(1, 1, 12, 12)
    clear[..., 4:8] = 1
    picture = Picture(torch.full((1, 3, 12, 12), -1.0), clear)
    assert to_white(preprocess("canny", picture)).any()
    assert to_grey(picture)[0].tolist() == pytest.approx([255] * 4 + [0] * 4 + [255] * 4)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("canny", {"low": 200, "high": 100}, "canny thresholds 200 and 100"),
        ("canny", {"low": -1}, "canny thresholds -1 and 200"),
        ("canny", {"low": math.nan}, "canny thresholds nan and 200"),
        ("canny", {"sigma": -1}, "a blur of -1 pixels"),
        ("canny", {"sigma": math.inf}, "a blur of inf pixels"),
        ("lines", {"fine": 5}, "lines from 5 to 5 pixels"),
        ("lines", {"threshold": math.nan}, "lines darker by nan"),
        ("lines", {"coarse": 1e6}, "a blur of 1e\\+06 pixels"),
    ],
)
def test_numbers_out_of_range(name: str, given: dict[str, float], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        preprocess(name, to_picture(draw(8, 8)), **given)


def test_names_that_do_not_exist() -> None:
    with pytest.raises(UnknownName, match="unknown preprocessor 'cany'") as caught:
        preprocess("cany", to_picture(draw(8, 8)))
    assert "canny" in caught.value.hint
    with pytest.raises(UnknownName, match="unknown setting of canny 'threshold'"):
        preprocess("canny", to_picture(draw(8, 8)), threshold=3)
    assert list_settings("canny") == {"low": 100.0, "high": 200.0, "sigma": 1.0}
    assert list_settings("none") == {}
