from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from eightfold.codec.pixels import to_pil
from eightfold.core.errors import OutputError
from eightfold.metrics.pixels import psnr, shift_channels, ssim


def to_array(image: Tensor) -> np.ndarray:
    return np.asarray(to_pil(image))


def build_pairs() -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    photo = torch.from_numpy(data.astronaut()[40:200, 100:233].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    noise = torch.rand(1, 3, 11, 40, generator=generator) * 2 - 1
    return {
        "a little noise": (photo, (photo + 0.1 * torch.randn(photo.shape, generator=generator)).clamp(-1, 1)),
        "shifted": (photo, photo.roll(2, -1)),
        "darker": (photo, photo * 0.5 - 0.5),
        "nothing alike": (noise, noise.flip(-1)),
        "flat": (torch.zeros(1, 3, 20, 20), torch.full((1, 3, 20, 20), 0.5)),
    }


@pytest.mark.parametrize("name", build_pairs())
def test_the_figures_are_those_of_scikit_image(name: str) -> None:
    first, second = build_pairs()[name]
    a, b = to_array(first), to_array(second)
    assert psnr(first, second) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "channel_axis": -1}
    assert ssim(first, second) == pytest.approx(structural_similarity(a, b, **options), abs=1e-7)


def test_equal_pictures() -> None:
    image = build_pairs()["shifted"][0]
    assert psnr(image, image) == math.inf
    assert ssim(image, image) == 1.0


def test_what_a_file_would_not_tell_apart_is_equal() -> None:
    image = torch.zeros(1, 3, 12, 12)
    assert psnr(image, image + 1e-4) == math.inf


def test_psnr_of_one_level() -> None:
    black = torch.full((1, 3, 5, 7), -1.0)
    assert psnr(black, black + 1 / 127.5) == pytest.approx(20 * math.log10(255))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (10, 40), (4, 3), (11, 11)])
def test_pictures_smaller_than_the_window(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert ssim(image, image) == 1.0
    assert -1 <= ssim(image, -image) < 0.99


def test_of_a_single_pixel_only_the_brightness_counts() -> None:
    dark, light = torch.full((1, 3, 1, 1), -1.0), torch.full((1, 3, 1, 1), 1.0)
    expected = (0.01 * 255) ** 2 / (255**2 + (0.01 * 255) ** 2)
    assert ssim(dark, light) == pytest.approx(expected, rel=1e-9)


def test_a_batch_is_the_mean_of_its_pictures() -> None:
    first, second = build_pairs()["darker"]
    third = second.flip(-1)
    both = ssim(torch.cat([first, first]), torch.cat([second, third]))
    assert both == pytest.approx((ssim(first, second) + ssim(first, third)) / 2)


def test_shapes_must_agree_and_values_be_finite() -> None:
    image = torch.zeros(1, 3, 12, 12)
    with pytest.raises(ValueError, match="differ in shape"):
        ssim(image, image[..., 1:])
    with pytest.raises(OutputError, match="432 values of 432 that are not finite"):
        psnr(image, image * math.nan)


def test_shift_of_mean_and_contrast() -> None:
    image = build_pairs()["shifted"][0]
    assert shift_channels(image, image) == ((0, 0, 0), (1, 1, 1))
    half = torch.cat([image[:, :1] * 0.5, image[:, 1:2] * 0.25 + 0.5, image[:, 2:]], dim=1)
    means, contrasts = shift_channels(image, half)
    a, b = to_array(image).astype(float), to_array(half).astype(float)
    assert means == pytest.approx((b - a).mean(axis=(0, 1))) and contrasts == pytest.approx(b.std(axis=(0, 1)) / a.std(axis=(0, 1)))
    assert contrasts == pytest.approx((0.5, 0.25, 1), abs=0.01) and means[2] == 0
    there, back = shift_channels(image, half), shift_channels(half, image)
    assert back[0] == pytest.approx([-mean for mean in there[0]]) and back[1] == pytest.approx([1 / contrast for contrast in there[1]])


def test_contrast_of_what_is_flat() -> None:
    flat, image = torch.zeros(1, 3, 12, 12), build_pairs()["nothing alike"][0][..., :12]
    assert shift_channels(flat, flat + 8 / 127.5) == ((8, 8, 8), (1, 1, 1))
    assert shift_channels(flat[..., :11, :], image)[1] == (math.inf,) * 3
    assert shift_channels(image, flat[..., :11, :])[1] == (0,) * 3
