"""Noise in the order in which other programs draw it."""

from __future__ import annotations

import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from hypothesis import given
from hypothesis import strategies as st

from eightfold.core.errors import RequestError, UnknownName
from eightfold.core.philox import Philox
from eightfold.core.rng import LARGEST_BATCH, Draws, NoiseSource, build_generator, draw_noise, to_noise_source

SHAPE = (1, 4, 5, 3)  # 60 numbers: no multiple of 16, so that one draw of a batch is not several draws
# torch.randn(3, 4, device="cuda") after torch.manual_seed(0), as any NVIDIA GPU gives it
ON_A_GPU = [
    [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
    [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
    [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
]


def draw(text: str, seed: int = 7, count: int = 3, shape: tuple[int, ...] = SHAPE) -> list[torch.Tensor]:
    draws = Draws(seed, to_noise_source(text))
    return [draws.draw(shape) for _ in range(count)]


def draw_plainly(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def are_equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return len(found) == len(expected) and all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_the_numbers_of_a_gpu() -> None:
    found = Philox(0).draw((3, 4))
    assert found.dtype == torch.float32 and found.shape == (3, 4)
    assert torch.allclose(found, torch.tensor(ON_A_GPU), atol=2e-7)


def test_philox_against_published_vectors() -> None:
    """Of Random123, the authors' library: counter and key zero, ten rounds."""
    first, second = Philox(0).draw_words(1)
    assert (int(first[0]), int(second[0])) == (0x6627E8D5, 0xE169C58D)


def test_tensors_and_seeds_of_a_gpu_are_streams_of_their_own() -> None:
    one, other = Philox(5), Philox(5 + 2**40)
    first, second, third = one.draw((2, 5000)), one.draw((2, 5000)), other.draw((2, 5000))
    assert len({tensor.numpy().tobytes() for tensor in (first, second, third)}) == 3
    assert abs(first.mean().item()) < 0.04 and abs(first.std().item() - 1) < 0.03
    assert abs((first * second).mean().item()) < 0.04 and abs((first * third).mean().item()) < 0.04


@pytest.mark.parametrize("text", ["ours", "a1111", "diffusers"])
def test_one_generator_for_all(text: str) -> None:
    assert are_equal(draw(text), draw_plainly(7, SHAPE, SHAPE, SHAPE))


def test_ours_is_what_it_was() -> None:
    generator = build_generator(3)
    assert are_equal(draw("ours", seed=3), [draw_noise(SHAPE, generator) for _ in range(3)])


def test_a_shifted_seed_for_all_but_the_first() -> None:
    first, later = draw_plainly(7, SHAPE), draw_plainly(7 + 31337, SHAPE, SHAPE)
    assert are_equal(draw("a1111:ensd=31337"), [*first, *later])


def test_comfy_draws_the_batch_at_once_and_the_rest_with_the_next_seed() -> None:
    whole = (4, *SHAPE[1:])
    (first,), later = draw_plainly(7, whole), draw_plainly(8, whole, whole)
    for place in range(4):
        assert are_equal(draw(f"comfy:{place + 1}/4"), [tensor[place : place + 1] for tensor in (first, *later)])
    assert not torch.equal(draw("comfy:1/4")[1], draw("comfy")[1])
    assert not torch.equal(draw("comfy:1/4")[0], draw("comfy")[0])  # as 60 is no multiple of 16


def test_pictures_of_sixteens_do_not_see_their_batch() -> None:
    """Then torch draws a batch as it draws one after the other, and so do ComfyUI's `batch_index`."""
    shape = (1, 4, 8, 8)
    one_by_one = draw_plainly(7, shape, shape, shape)
    assert are_equal([draw(f"comfy:{place}/3", shape=shape)[0] for place in (1, 2, 3)], one_by_one)


@pytest.mark.parametrize("count", [1, 3])
def test_diffusers_own_function(count: int) -> None:
    generator = torch.Generator().manual_seed(7)
    drawn = [randn_tensor((count, *SHAPE[1:]), generator=generator, device=torch.device("cpu")) for _ in range(3)]
    for place in range(count):
        assert are_equal(draw(f"diffusers:{place + 1}/{count}"), [tensor[place : place + 1] for tensor in drawn])


def test_where_a_gpu_comes_in() -> None:
    philox, restarted = Philox(7), Philox(7)
    own = [philox.draw(SHAPE) for _ in range(3)]
    assert are_equal(draw("a1111:gpu"), own) and are_equal(draw("diffusers:gpu"), own)
    assert are_equal(draw("comfy:gpu"), [*draw_plainly(7, SHAPE), *[restarted.draw(SHAPE) for _ in range(2)]])
    assert are_equal(draw("a1111:gpu,ensd=2")[:2], [own[0], Philox(9).draw(SHAPE)])


def test_texts() -> None:
    assert to_noise_source("ours") == NoiseSource()
    assert to_noise_source(" A1111:ENSD=31337,gpu ") == NoiseSource(program="a1111", gpu=True, shift=31337)
    assert to_noise_source("comfy: 2/4") == NoiseSource(program="comfy", place=2, batch=4)


@pytest.mark.parametrize(
    "text", ["ours:gpu", "ours:1/2", "a1111:1/2", "comfy:0/2", "comfy:3/2", "diffusers:ensd=1", f"comfy:1/{LARGEST_BATCH + 1}", "comfy:x"]
)
def test_words_that_a_program_cannot_have(text: str) -> None:
    with pytest.raises(RequestError, match="noise source") as caught:
        to_noise_source(text)
    assert caught.value.hint


def test_unknown_programs() -> None:
    with pytest.raises(UnknownName, match="unknown noise source 'comfyui'") as caught:
        to_noise_source("comfyui")
    assert "comfy" in caught.value.hint


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert to_noise_source(text).program in ("ours", "a1111", "comfy", "diffusers")
    except RequestError as error:
        assert error.hint
