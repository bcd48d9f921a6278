"""Guidance on outputs is guidance on clean estimates, and costs nothing where it does nothing."""

from __future__ import annotations

import pytest
import torch

from eightfold.core.errors import RequestError
from eightfold.diffusion.guidance import ClassifierFree
from eightfold.diffusion.predict import to_clean


def draw(count):
    return torch.randn(count, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["noise", "velocity", "clean"])
def test_outputs_or_clean_estimates_is_the_same(kind):
    guidance = ClassifierFree(5.0)
    noisy, positive, negative = draw(3)
    late = guidance.combine(*(to_clean(output, noisy, 0.6, 0.8, kind) for output in (positive, negative)))
    assert torch.allclose(late, to_clean(guidance.combine(positive, negative), noisy, 0.6, 0.8, kind))


def test_the_scale():
    positive, negative = draw(2)
    assert torch.allclose(ClassifierFree(1.0).combine(positive, negative), positive)
    assert torch.equal(ClassifierFree(0.0).combine(positive, negative), negative)
    assert torch.allclose(ClassifierFree(3.0).combine(positive, negative), 3 * positive - 2 * negative)


def test_scale_one_needs_one_evaluation():
    assert [ClassifierFree(scale).needs_negative for scale in (0.0, 1.0, 4.5)] == [True, False, True]


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_a_scale_that_cannot_be_is_refused(scale):
    with pytest.raises(RequestError, match="guidance") as caught:
        ClassifierFree(scale)
    assert caught.value.hint
