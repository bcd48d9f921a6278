"""Pictures inside a page."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import pytest
import torch
from PIL import Image

from eightfold.codec.pixels import to_image
from eightfold.pipelines.thumbnail import LONGEST, PAGE, to_embedded, to_share


def draw_noise_picture(width: int, height: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def open_embedded(address: str) -> Image.Image:
    kind, _, data = address.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(BytesIO(b64decode(data, validate=True)))


def test_a_small_picture_is_kept_to_the_bit() -> None:
    image = to_image(Image.effect_mandelbrot((40, 24), (-2, -1, 1, 1), 50).convert("RGB"))
    embedded = open_embedded(to_embedded(image, 10**6))
    assert torch.equal(to_image(embedded), image)


@pytest.mark.parametrize("share", [60_000, 6_000, 900])
def test_the_share_is_kept_even_by_noise(share: int) -> None:
    address = to_embedded(draw_noise_picture(300, 200), share)
    assert len(address) <= share * 4 / 3 + 40
    width, height = open_embedded(address).size
    assert abs(width / height - 1.5) < 0.1


def test_the_longest_side() -> None:
    assert open_embedded(to_embedded(torch.zeros(1, 3, 20, 3 * LONGEST), 10**6)).size == (LONGEST, 7)


@pytest.mark.parametrize("pictures", [1, 300, 5000])
def test_all_shares_fit_into_the_page(pictures: int) -> None:
    assert PAGE - 4 * pictures <= to_share(pictures) * pictures * 4 / 3 <= PAGE < 50_000_000
