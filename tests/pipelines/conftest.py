"""The embedded model, loaded once; its weights are never changed."""

from __future__ import annotations

import pytest

from eightfold.pipelines.bundle import Model, load


@pytest.fixture(scope="session")
def model() -> Model:
    return load("pocket", device="cpu")
