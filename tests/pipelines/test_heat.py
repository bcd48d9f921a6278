"""Error maps in colour."""

from __future__ import annotations

import numpy as np
import torch
from skimage.color import rgb2lab

from eightfold.codec.pixels import to_bytes
from eightfold.pipelines.heat import HEAT, build_scale, to_heat


def test_lightness_rises_evenly() -> None:
    colours = (build_scale(101, 1)[0, :, 0].T.double().numpy() + 1) / 2
    lab = rgb2lab(colours[None])[0]
    steps = np.diff(lab[:, 0])
    assert steps.min() > 0.5 and steps.max() < 1.2 and lab[0, 0] < 3 and lab[-1, 0] > 92
    apart = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert apart.max() / apart.min() < 1.6


def test_the_ends_and_the_middle_are_the_anchors() -> None:
    image = to_heat(torch.tensor([[0.0, 0.5, 1.0], [-1.0, 0.25, 2.0]]))
    pixels = to_bytes(image)[0].permute(1, 2, 0).tolist()
    first, last = [list(HEAT[place]) for place in (0, -1)]
    assert pixels == [[first, list(HEAT[4]), last], [first, list(HEAT[2]), last]]
