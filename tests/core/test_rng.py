from __future__ import annotations

import torch

from eightfold.core.rng import build_generator, draw_noise


def test_noise_is_standard_normal_float32() -> None:
    noise = draw_noise((4, 50_000), build_generator(3))
    assert noise.dtype == torch.float32 and noise.shape == (4, 50_000)
    assert abs(noise.mean().item()) < 4 / 200_000**0.5
    assert abs(noise.var().item() - 1) < 4 * (2 / 200_000) ** 0.5


def test_a_seed_alone_is_torch_s_own_and_nothing_else_matters() -> None:
    expected = torch.randn((2, 3), generator=torch.Generator().manual_seed(7))
    state = torch.get_rng_state()
    assert torch.equal(draw_noise((2, 3), build_generator(7)), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_purposes_and_seeds_are_streams_of_their_own() -> None:
    keys = [(1,), (2,), (1, "a"), (1, "b"), (2, "a"), (1, "a", 0), (1, "a", 1), (1, "a", "0"), (-1, "a"), (2**63, "a")]
    firsts = {build_generator(*key).initial_seed() for key in keys}
    assert len(firsts) == len(keys)
    assert build_generator(1, "a").initial_seed() == build_generator(1, "a").initial_seed()


def test_the_stream_of_a_purpose_stays_what_it_was() -> None:
    assert build_generator(0, "posterior").initial_seed() == 0x8EB60FEDA776F2
