"""The Fréchet distance between two sets of features, each taken as a Gaussian (arXiv 1706.08500, equation 6)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]) -> float:
    """|mean - mean'|^2 + trace(C + C' - 2 (C C')^(1/2)), at least 0, in float64, with unbiased covariances.

    The trace of the root is the sum of the roots of the eigenvalues of C^(1/2) C' C^(1/2), which is symmetric, so fewer samples than
    features do no harm to the numbers (though such a distance is too large). Raises ValueError for sets of different widths, of less
    than two samples, or with values that are not finite.
    """
    if first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ValueError(f"features of {list(first.shape)} and {list(second.shape)}: expected two samples or more, of one width")
    if not bool(torch.isfinite(first).all() and torch.isfinite(second).all()):
        raise ValueError("features that are not finite")
    mean, covariance = fit_gaussian(first)
    other_mean, other_covariance = fit_gaussian(second)
    root = to_root(covariance)
    shared = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    distance = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * shared
    return max(distance.item(), 0.0)


def fit_gaussian(features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "d"], Float[Tensor, "d d"]]:
    """Mean and unbiased covariance, in float64."""
    values = features.double()
    mean = values.mean(dim=0)
    centred = values - mean
    return mean, centred.T @ centred / (len(values) - 1)


def to_root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The symmetric root of a covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
