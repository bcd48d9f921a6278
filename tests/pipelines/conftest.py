"""The embedded model, loaded once; its weights are never changed. Compiled kernels are kept where those of the kernels' own tests are."""

from __future__ import annotations

from pathlib import Path

import pytest

from eightfold.nn.kernels.ready import find_missing, load_kernels
from eightfold.pipelines.bundle import Model, load

if not find_missing():
    load_kernels(Path(__file__).parents[2] / ".pytest_cache" / "kernels")


@pytest.fixture(scope="session")
def model() -> Model:
    return load("pocket", device="cpu")
