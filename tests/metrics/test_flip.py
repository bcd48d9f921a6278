"""FLIP against its authors' program, and what it must do on any picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eightfold.metrics.flip import PIXELS_PER_DEGREE, flip

# Means over the pairs below by the authors' package flip-evaluator 1.7 from PyPI:
# evaluate(reference / 255, test / 255, "LDR", applyMagma=False, parameters={"ppd": ...}), its default of 67.0206 first, then 30
MEANS = {
    "noise": (0.126450, 0.286126),
    "darker": (0.702447, 0.688153),
    "shifted": (0.249383, 0.359985),
    "other colours": (0.391948, 0.651206),
    "grey": (0.772468, 0.767334),
}


def build_pairs() -> dict[str, tuple[Tensor, Tensor]]:
    rows, columns = np.mgrid[0:48, 0:64]
    waves = [127 + 100 * np.sin(columns / 5), 127 + 90 * np.cos(rows / 7 + columns / 11), 127 + 110 * np.sin((rows + columns) / 9)]
    wavy = np.stack(waves, axis=-1)
    board = np.where(((rows // 6 + columns // 6) % 2 == 0)[..., None], [200, 40, 30], [20, 60, 180]).astype(float)
    noise = (rows * 7919 + columns * 104729) % 61 - 30  # no generator: the same numbers anywhere
    return {
        "noise": (to_image(wavy), to_image(wavy + noise[..., None])),
        "darker": (to_image(wavy), to_image(wavy * 0.7)),
        "shifted": (to_image(board), to_image(np.roll(board, 2, 1))),
        "other colours": (to_image(board), to_image(board[..., ::-1])),
        "grey": (to_image(wavy), to_image(np.repeat(wavy.mean(-1, keepdims=True), 3, -1))),
    }


def to_image(levels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.clip(np.round(levels), 0, 255)).permute(2, 0, 1)[None].float() / 127.5 - 1


def fill(red: float, green: float, blue: float, size: tuple[int, int] = (9, 14)) -> Tensor:
    return (torch.tensor([red, green, blue]).float() * 2 - 1).view(1, 3, 1, 1).expand(1, 3, *size)


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("density", [0, 1], ids=["usual", "30 a degree"])
def test_the_means_are_those_of_the_authors(name: str, density: int) -> None:
    errors = flip(*build_pairs()[name], pixels_per_degree=(PIXELS_PER_DEGREE, 30.0)[density])
    assert float(errors.mean()) == pytest.approx(MEANS[name][density], abs=5e-5)


def test_the_usual_viewer() -> None:
    assert pytest.approx(67.0206, abs=5e-5) == PIXELS_PER_DEGREE


def test_the_scale_ends_at_green_against_blue() -> None:
    assert torch.allclose(flip(fill(0, 1, 0), fill(0, 0, 1)), torch.ones(9, 14), atol=1e-6)
    assert float(flip(fill(0, 0, 0), fill(1, 1, 1)).mean()) == pytest.approx(0.967388, abs=5e-5)  # by the same package


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (7, 5), (48, 64)])
def test_equal_pictures_differ_nowhere(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    errors = flip(image, image)
    assert errors.shape == size and not errors.any()
    other = flip(image, -image)
    assert other.shape == size and float(other.min()) >= 0 and float(other.max()) <= 1 and float(other.mean()) > 0.05


@pytest.mark.parametrize("name", MEANS)
def test_it_is_symmetric(name: str) -> None:
    first, second = build_pairs()[name]
    assert torch.allclose(flip(first, second), flip(second, first), atol=1e-6)


def test_it_grows_with_noise_and_with_blur() -> None:
    clean = build_pairs()["other colours"][0]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    noisy = [float(flip(clean, (clean + share * noise).clamp(-1, 1)).mean()) for share in (0.02, 0.1, 0.3, 0.9)]
    assert noisy == sorted(noisy) and noisy[0] < noisy[-1] / 3
    blurred = [float(flip(clean, F.avg_pool2d(clean, size, 1, size // 2, count_include_pad=False)).mean()) for size in (1, 3, 5, 9)]
    assert blurred == sorted(set(blurred)) and blurred[0] == 0


def test_the_error_is_where_the_pictures_differ() -> None:
    image = build_pairs()["noise"][0]
    spoilt = image.clone()
    spoilt[:, :, 20:24, 30:34] *= -1
    errors = flip(image, spoilt)
    assert float(errors[20:24, 30:34].mean()) > 0.3
    errors[8:36, 18:46] = 0  # as far as the filters see: 10 pixels for colours, 9 for edges
    assert not errors.any()


def test_from_farther_away_fine_detail_is_not_seen() -> None:
    rows, columns = np.mgrid[0:40, 0:40]
    board = np.repeat((((rows + columns) % 2) * 40 + 100.0)[..., None], 3, axis=-1)
    inverse = 240 - board
    near, far = (float(flip(to_image(board), to_image(inverse), pixels_per_degree=density)[12:28, 12:28].mean()) for density in (10, 120))
    assert far < near / 2


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        flip(fill(0, 0, 0), fill(0, 0, 0, (9, 15)))
