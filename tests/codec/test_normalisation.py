"""Packing and normalisation: orders, inverses, and where the numbers come from."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.codec.normalisation import denormalise, find_normalisation, normalise, pack, to_metadata, unpack
from eightfold.core.errors import CheckpointError, LatentError
from eightfold.families.spaces import FLUX1, FLUX2, HUNYUAN_REFINER, QWEN, SD, SD3
from eightfold.specs.space import Normalisation, Packing
from weights import draw

MEAN, VARIANCE = "bn.running_mean", "bn.running_var"


@settings(max_examples=40)
@given(
    side=st.integers(1, 3),
    copies=st.integers(1, 3),
    channels=st.integers(1, 3),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
)
def test_packing_and_back(side: int, copies: int, channels: int, height: int, width: int) -> None:
    packing, raw = Packing(side=side, copies=copies), draw(2, channels, height * side, width * side)
    packed = pack(raw, packing)
    assert packed.shape == (2, channels * packing.factor, height, width)
    assert torch.equal(packed, rearrange(raw, "b c (h i) (w j) -> b (c i j) h w", i=side, j=side).repeat(1, copies, 1, 1))
    assert torch.equal(unpack(packed, packing), raw)


def test_of_two_frames_the_second_counts() -> None:
    raw = draw(1, 2, 3, 3)
    packed = pack(raw, HUNYUAN_REFINER.packing)
    packed[:, :2] = 7
    assert torch.equal(unpack(packed, HUNYUAN_REFINER.packing), raw)


def test_a_side_that_cannot_be_packed() -> None:
    with pytest.raises(LatentError, match="5x4 cells cannot be packed by 2x2") as caught:
        pack(draw(1, 2, 4, 5), Packing(side=2))
    assert "multiple of 2" in caught.value.hint


@pytest.mark.parametrize(("space", "expected"), [(SD, 0.18215 * 3), (SD3, (3 - 0.0609) * 1.5305), (FLUX1, (3 - 0.1159) * 0.3611)])
def test_the_shift_comes_before_the_scale(space, expected) -> None:
    raw = torch.full((1, space.channels, 2, 2), 3.0)
    latent = normalise(raw, space.packing, space.normalisation)
    assert torch.allclose(latent, torch.full_like(latent, expected))
    assert torch.allclose(denormalise(latent, space.packing, space.normalisation), raw)


def test_qwen_is_normalised_channel_by_channel() -> None:
    raw = torch.ones(1, 16, 1, 1)
    latent = normalise(raw, QWEN.packing, QWEN.normalisation).flatten()
    assert latent[0].item() == pytest.approx((1 + 0.7571) / 2.8184) and latent[15].item() == pytest.approx((1 + 0.2921) / 1.9160)


def build_statistics() -> dict[str, torch.Tensor]:
    return {MEAN: draw(128, seed=1), VARIANCE: draw(128, seed=2).square()}


def test_statistics_are_those_of_the_weights() -> None:
    tensors = build_statistics()
    numbers = find_normalisation({}, tensors, FLUX2, "ae")
    raw = draw(1, 32, 4, 6)
    packed = rearrange(raw, "b c (h i) (w j) -> b (c i j) h w", i=2, j=2)
    mean, variance = (tensors[name][None, :, None, None] for name in (MEAN, VARIANCE))
    assert torch.allclose(normalise(raw, FLUX2.packing, numbers), (packed - mean) / (variance + 1e-4).sqrt(), atol=1e-3, rtol=1e-5)
    assert torch.allclose(denormalise(normalise(raw, FLUX2.packing, numbers), FLUX2.packing, numbers), raw, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {MEAN: None},
        {VARIANCE: None},
        {MEAN: torch.zeros(127)},
        {VARIANCE: torch.zeros(1, 128)},
        {VARIANCE: torch.full((128,), -1.0)},
        {VARIANCE: torch.full((128,), float("inf"))},
        {MEAN: torch.full((128,), float("nan"))},
    ],
)
def test_statistics_that_cannot_be(changes) -> None:
    tensors = {name: tensor for name, tensor in {**build_statistics(), **changes}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=r"ae.*bn\.running") as caught:
        find_normalisation({}, tensors, FLUX2, "ae")
    assert "128" in caught.value.hint


def test_metadata_come_before_statistics_and_constants() -> None:
    numbers = Normalisation(scale=(2.0,), shift=tuple(range(128)))
    assert find_normalisation(to_metadata(numbers), build_statistics(), FLUX2, "ae") == numbers
    assert find_normalisation(to_metadata(Normalisation(scale=(2.0,))), {}, SD, "vae") == Normalisation(scale=(2.0,))
    assert find_normalisation({}, {}, SD, "vae") is SD.normalisation
    with pytest.raises(CheckpointError, match="normalisation"):
        find_normalisation(to_metadata(Normalisation(scale=(1.0,) * 32)), {}, FLUX2, "ae")  # one a raw channel is not one a packed one
