"""Fine-tunes that mean something else by their output, from a file to a picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from eightfold.families.processes import COSXL_PROCESS, PLAYGROUND_PROCESS, ZERO_TERMINAL
from eightfold.pipelines.bundle import load
from eightfold.pipelines.request import Request
from toymodels import TOY, XL, know, write_model
from toytowers import BOTH

MEAN, STD = torch.tensor([-1.6, 1.1, 1.4, -1.6]), torch.tensor([8.4, 5.3, 5.8, 4.3])


@pytest.mark.parametrize(
    ("marks", "process"),
    [
        ({"ztsnr": torch.zeros(1), "v_pred": torch.zeros(1)}, ZERO_TERMINAL),
        ({"edm_vpred.sigma_max": torch.tensor(120.0)}, COSXL_PROCESS),
        ({"edm_mean": MEAN, "edm_std": STD}, PLAYGROUND_PROCESS),
    ],
)
def test_each_draws_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marks: dict[str, Tensor], process: object) -> None:
    """With the grid that its process can have, in latents that are its own."""
    know(monkeypatch, XL)
    model = load(write_model(tmp_path / "x.safetensors", TOY, BOTH, marks=marks.items()), device="cpu")
    assert model.family.process == process and len(model.notes) == 1
    *_, last = model.generate(Request(prompt="a red cube", size=(32, 24), steps=3))
    assert last.images[0].image.shape == (1, 3, 24, 32) and bool(torch.isfinite(last.noisy).all())
    raw = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(1))
    own = (raw - MEAN.view(1, 4, 1, 1)) / STD.view(1, 4, 1, 1)
    assert torch.allclose(model.codec.normalise(raw), own if "edm_mean" in marks else raw, atol=1e-6)
    assert torch.allclose(last.to_latent().raw, model.codec.denormalise(last.noisy))
