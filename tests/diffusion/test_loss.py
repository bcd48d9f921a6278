"""The loss is one number a sample, and every table entry is drawn."""

from __future__ import annotations

from collections import Counter

import torch

from eightfold.diffusion.loss import denoising_loss, draw_times
from eightfold.specs.process import ScaledLinear


def test_one_mean_a_sample():
    output = torch.zeros(3, 4, 2, 2)
    target = output.clone()
    target[1] = 2
    target[2, 0, 0, 0] = 4
    assert denoising_loss(output, target).tolist() == [0, 4, 1]


def test_entries_are_equally_likely():
    drawn = Counter(draw_times(4000, ScaledLinear(steps=4), torch.Generator().manual_seed(0)))
    assert set(drawn) == {0.25, 0.5, 0.75, 1.0}
    assert all(abs(count - 1000) < 3 * (4000 * 0.25 * 0.75) ** 0.5 for count in drawn.values())


def test_times_are_entries_and_follow_the_seed():
    first, again, other = (draw_times(50, ScaledLinear(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert all(ScaledLinear().timestep(t).is_integer() for t in first)
