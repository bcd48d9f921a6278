"""The Fréchet distance against what is known of Gaussians."""

import math

import pytest
import torch

from eightfold.metrics.frechet import frechet_distance


def draw(count, width, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whiten(values):
    """The same samples with mean 0 and covariance 1, exactly."""
    centred = values - values.mean(dim=0)
    return centred @ torch.linalg.inv(torch.linalg.cholesky(centred.T @ centred / (len(values) - 1))).T


def test_a_set_is_at_no_distance_from_itself():
    features = draw(200, 12) @ draw(12, 12, 1)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features, features + 1e-3) > 1e-6


def test_diagonal_gaussians():
    """|difference|^2 plus the squared differences of the standard deviations."""
    first, second = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 0.5, 3.0]).double()
    shift = torch.tensor([0.3, 0.0, -1.2]).double()
    a, b = whiten(draw(400, 3)) * first, whiten(draw(300, 3, 1)) * second + shift
    expected = shift.square().sum() + (first - second).square().sum()
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)


def test_covariances_that_do_not_commute():
    """In two dimensions the trace of the root of a matrix is sqrt(trace + 2 sqrt(determinant))."""
    one, other = torch.tensor([[2.0, 1.0], [0.0, 1.0]]).double(), torch.tensor([[0.5, 0.0], [1.5, 2.0]]).double()
    a, b = whiten(draw(300, 2)) @ one, whiten(draw(300, 2, 1)) @ other
    first, second = one.T @ one, other.T @ other
    assert not torch.allclose(first @ second, second @ first)
    root = math.sqrt((first @ second).trace() + 2 * math.sqrt(torch.linalg.det(first @ second)))
    assert frechet_distance(a, b) == pytest.approx((first.trace() + second.trace() - 2 * root).item(), rel=1e-9)


def test_a_rotation_and_the_order_change_nothing():
    a, b = draw(100, 8) @ draw(8, 8, 1), draw(150, 8, 2) + 0.5
    turn = torch.linalg.qr(draw(8, 8, 3))[0]
    expected = frechet_distance(a, b)
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)
    assert expected > 0.1


@pytest.mark.parametrize("count", [2, 5, 40])
def test_fewer_samples_than_features(count):
    a, b = draw(count, 64).float(), draw(count, 64, 1).float()
    found = frechet_distance(a, b)
    assert math.isfinite(found) and found > 0
    assert 0 <= frechet_distance(a, a) < 1e-6
    assert frechet_distance(torch.ones(count, 4), torch.ones(count, 4)) == 0


def test_sets_that_cannot_be_compared():
    for a, b in ((draw(1, 3), draw(9, 3)), (draw(9, 3), draw(9, 4))):
        with pytest.raises(ValueError, match="expected"):
            frechet_distance(a, b)
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(draw(9, 3), draw(9, 3) / 0)
