"""Quantiles of a symmetric beta distribution."""

from __future__ import annotations

from math import gamma


def find_quantile(probability: float, shape: float) -> float:
    """The x in [0, 1] below which Beta(shape, shape) lies with this probability, for a shape up to 1.

    Newton's method in y = x**shape, in which the distribution is nearly a straight line up to the middle; beyond it lies its mirror image.
    """
    if probability > 0.5:
        return 1 - find_quantile(1 - probability, shape)
    whole = gamma(shape) ** 2 / gamma(2 * shape)
    y = min(probability * shape * whole, 0.5**shape)
    for _ in range(50):
        x = y ** (1 / shape)
        change = (accumulate(x, shape) / whole - probability) * shape * whole * (1 - x) ** (1 - shape)
        y = min(max(y - change, 0.0), 0.5**shape)
        if abs(change) <= 1e-15 * y:
            break
    return y ** (1 / shape)


def accumulate(x: float, shape: float) -> float:
    """The integral of (u * (1 - u)) ** (shape - 1) from 0 to x, for x up to one half, by the binomial series."""
    total, term, count = 0.0, 1.0, 0
    while term > 1e-17:
        total += term / (shape + count)
        count += 1
        term *= (count - shape) / count * x
    return total * x**shape
