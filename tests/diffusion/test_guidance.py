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


def test_an_interval_costs_nothing_outside():
    guidance = ClassifierFree(4.0, interval=(0.2, 0.8))
    assert guidance.needs_negative
    assert [guidance.acts_at(t) for t in (1.0, 0.81, 0.8, 0.5, 0.2, 0.1)] == [False, False, True, True, False, False]
    assert ClassifierFree(4.0).acts_at(1.0) and ClassifierFree(4.0).acts_at(0.001)
    assert not ClassifierFree(1.0, interval=(0.2, 0.8)).acts_at(0.5)


@pytest.mark.parametrize("part", [0.3, 0.7, 1.0])
def test_rescale_is_that_of_the_paper(part):
    """arXiv 2305.08891, equations 14 to 16; here a picture at a time."""
    positive, negative = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rescaled = ClassifierFree(7.0, rescale=part).combine(positive, negative)
    for one, expected, guided in zip(rescaled, positive, ClassifierFree(7.0).combine(positive, negative), strict=True):
        assert torch.allclose(one, part * (guided * expected.std() / guided.std()) + (1 - part) * guided, atol=1e-12)


def test_full_rescale_keeps_the_spread_of_each_picture():
    positive, negative = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    guided = ClassifierFree(7.0, rescale=1.0).combine(positive, negative)
    assert torch.allclose(guided.std((1, 2, 3)), positive.std((1, 2, 3)))


def test_rescale_of_what_has_no_spread():
    flat = torch.full((2, 4, 3, 3), 0.5)
    assert torch.equal(ClassifierFree(7.0, rescale=0.7).combine(flat, torch.zeros_like(flat)), 7 * flat)
    single = torch.ones(1, 1, 1, 1)
    assert ClassifierFree(7.0, rescale=0.7).combine(single, -single).isfinite().all()


def test_a_picture_counts_apart_from_the_text():
    """arXiv 2211.09800, equation 3."""
    positive, negative, neither = draw(3)
    both = ClassifierFree(7.5, picture=1.5).combine(positive, negative, neither)
    assert torch.allclose(both, neither + 1.5 * (negative - neither) + 7.5 * (positive - negative))
    assert torch.equal(
        ClassifierFree(7.5, picture=1.0).combine(positive, negative, neither), ClassifierFree(7.5).combine(positive, negative)
    )
    assert torch.allclose(ClassifierFree(0.0, picture=0.0).combine(positive, negative, neither), neither)
    assert [ClassifierFree(1.0, picture=picture).needs_negative for picture in (None, 1.0, 1.5)] == [False, False, True]


@pytest.mark.parametrize("picture", [-1.0, float("nan"), float("inf")])
def test_a_pictures_scale_that_cannot_be_is_refused(picture):
    with pytest.raises(RequestError, match="picture guidance") as caught:
        ClassifierFree(3.0, picture=picture)
    assert caught.value.hint


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_a_scale_that_cannot_be_is_refused(scale):
    with pytest.raises(RequestError, match="guidance") as caught:
        ClassifierFree(scale)
    assert caught.value.hint


UNIT = (-0.1, 1.5, float("nan"))
INTERVALS = ((0.8, 0.2), (0.5, 0.5), (0.0, 1.1), (-0.1, 0.5))


@pytest.mark.parametrize("settings", [{"rescale": part} for part in UNIT] + [{"interval": pair} for pair in INTERVALS])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(RequestError, match=next(iter(settings))) as caught:
        ClassifierFree(3.0, **settings)
    assert caught.value.hint
