"""Every prediction type leads from the same target back to the same clean latent and noise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.core.errors import RequestError
from eightfold.diffusion.predict import add_noise, to_clean, to_noise, to_target

KINDS = ("noise", "velocity", "clean", "edm")


def draw(seed):
    return torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(angle=st.floats(0.02, 1.55), seed=st.integers(0, 2**31))
def test_there_and_back(kind, angle, seed):
    alpha, sigma = math.cos(angle), math.sin(angle)
    clean, noise = draw(seed)
    noisy = add_noise(clean, noise, alpha, sigma)
    back = to_clean(to_target(clean, noise, alpha, sigma, kind), noisy, alpha, sigma, kind)
    assert torch.allclose(back, clean, atol=1e-10)
    assert torch.allclose(to_noise(back, noisy, alpha, sigma), noise, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_one_level_a_sample(kind):
    angles = (0.3, 1.2)
    clean, noise = draw(0)
    alpha, sigma = (torch.tensor([f(a) for a in angles], dtype=torch.float64).view(2, 1, 1, 1) for f in (math.cos, math.sin))
    together = to_target(clean, noise, alpha, sigma, kind)
    noisy = add_noise(clean, noise, alpha, sigma)
    for i, angle in enumerate(angles):
        assert torch.allclose(together[i], to_target(clean[i], noise[i], math.cos(angle), math.sin(angle), kind))
        assert torch.allclose(noisy[i], add_noise(clean[i], noise[i], math.cos(angle), math.sin(angle)))
    assert torch.allclose(to_clean(together, noisy, alpha, sigma, kind), clean)


def test_what_each_word_means():
    clean, noise = torch.full((1,), 2.0), torch.full((1,), 5.0)
    assert to_target(clean, noise, 0.8, 0.6, "noise").item() == 5
    assert to_target(clean, noise, 0.8, 0.6, "clean").item() == 2
    assert to_target(clean, noise, 0.8, 0.6, "velocity").item() == pytest.approx(0.8 * 5 - 0.6 * 2)
    assert to_target(clean, noise, 0.8, 0.6, "edm").item() == pytest.approx(0.6 * 2 - 0.8 * 5)


def test_predicted_noise_says_nothing_where_there_is_noise_alone():
    noisy = draw(1)[0]
    with pytest.raises(RequestError, match="noise alone") as caught:
        to_clean(noisy, noisy, 0.0, 1.0, "noise")
    assert "velocity" in caught.value.hint
    assert to_clean(noisy, noisy, 0.0, 1.0, "velocity").isfinite().all()
