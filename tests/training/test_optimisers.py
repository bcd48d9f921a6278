"""Muon: what its update is, where it applies, and that it descends."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from eightfold.core.errors import ConfigError
from eightfold.denoisers.unet import UNet
from eightfold.families.pocket import POCKET_FAMILY
from eightfold.training.config import Schedule
from eightfold.training.optimisers import QUINTIC, STEPS, build_optimisers, list_matrices, orthogonalise


def schedule(**more):
    return Schedule(**{"steps": 10, "batch": 2, "rate": 1e-2, "optimiser": "muon", **more})


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 99))
def test_singular_values_come_near_one_and_vectors_stay(rows, columns, seed):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    update = u.mT @ orthogonalise(matrix) @ v.mT
    relative = values / values.norm()
    expected = relative.clone()
    first, third, fifth = QUINTIC
    for _ in range(STEPS):
        expected = first * expected + third * expected**3 + fifth * expected**5
    torch.testing.assert_close(update, torch.diag(expected), atol=1e-4, rtol=0)
    assert ((expected > 0.6) & (expected < 1.25))[relative > 0.02].all()


def test_float32_is_enough():
    matrix = torch.randn(64, 576, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalise(matrix).double(), orthogonalise(matrix.double()), atol=1e-4, rtol=0)


def test_every_parameter_has_one_optimiser():
    with torch.device("meta"):
        model = UNet(POCKET_FAMILY.denoiser)
    muon, adam = build_optimisers(model, schedule())
    parts = [[id(one) for group in optimiser.param_groups for one in group["params"]] for optimiser in (muon, adam)]
    assert sorted(parts[0] + parts[1]) == sorted(id(parameter) for parameter in model.parameters())
    assert all(parameter.ndim in (2, 4) for parameter in muon.param_groups[0]["params"])
    assert id(model.conv_out.weight) in parts[1]
    assert id(model.time_embedding.linear_1.weight) in parts[0]


def test_embeddings_and_thin_kernels_are_no_matrices():
    model = nn.Sequential(nn.Embedding(32, 32), nn.Conv2d(3, 64, 1), nn.Linear(32, 32), nn.Conv2d(16, 32, 3))
    assert [tuple(matrix.shape) for matrix in list_matrices(model)] == [(32, 32), (32, 16, 3, 3)]


def test_a_small_problem_is_solved():
    generator = torch.Generator().manual_seed(3)
    goal = torch.randn(24, 24, generator=generator)
    model = nn.Linear(24, 24)
    optimisers = build_optimisers(model, schedule(weight_decay=0.0))
    losses = []
    for step in range(300):
        inputs = torch.randn(64, 24, generator=generator)
        loss = (model(inputs) - inputs @ goal.T).square().mean()
        model.zero_grad()
        loss.backward()
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = 0.1 * (1 - step / 300)
            optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-2 * losses[0]


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ConfigError, match="sgd"):
        schedule(optimiser="sgd")
