"""The network that enlarges pictures, against one in plain functions."""

from __future__ import annotations

import pytest
import torch

from eightfold.nn.rrdb import RRDBNet
from eightfold.specs.network import RRDBConfig
from rrdbfile import CONFIGS, build, run_plainly
from weights import draw


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_parity(config: RRDBConfig) -> None:
    network, image = build(config), draw(2, 3, 16, 12).sigmoid()
    found, expected = network(image), run_plainly(network.state_dict(), config, image)
    assert found.shape == (2, 3, int(16 * config.factor), int(12 * config.factor))
    assert expected.std() > 0.1 and torch.allclose(found, expected, atol=1e-5)


def test_numbers_of_the_public_network() -> None:
    """The model card of Real-ESRGAN's x4plus says 16.7 million."""
    with torch.device("meta"):
        assert sum(weight.numel() for weight in RRDBNet(RRDBConfig()).parameters()) == 16_697_987
