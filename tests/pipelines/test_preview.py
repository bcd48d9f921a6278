"""Previews: near to the decoded picture, made small, without decoding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from eightfold.checkpoints.known import read_table
from eightfold.codec.load import load_codec
from eightfold.pipelines import preview
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.preview import to_preview
from eightfold.pipelines.references import draw_references
from eightfold.pipelines.request import Request


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path / "cache"))


def test_it_is_near_to_the_picture(model: Model) -> None:
    """On pictures that it was not fitted on: nearer than their own mean colour by far."""
    image = torch.cat(draw_references(seed=7)[8:16], dim=-1)
    found = to_preview(model.codec, model.codec.encode(image).raw)
    small = F.avg_pool2d(image, model.codec.space.downscale)
    assert found.shape == small.shape
    assert (found - small).square().mean() < 0.2 * small.var()


def test_a_space_of_pixels_is_its_own_preview() -> None:
    codec = load_codec("pixels")
    image = draw_references(seed=3)[0]
    assert torch.allclose(to_preview(codec, image), image, atol=2e-3)


def test_it_is_fitted_once_and_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = replace(model.codec)
    raw = codec.encode(draw_references()[0]).raw
    first = to_preview(codec, raw)
    assert list(read_table(preview.TABLE)) == [codec.decoder_fingerprint]
    monkeypatch.setattr(preview, "fit_map", lambda codec: pytest.fail("fitted again"))
    assert torch.equal(to_preview(codec, raw), first)
    assert torch.equal(to_preview(replace(codec), raw), first)  # another object with the same weights: from the file


def test_a_damaged_cache_is_no_obstacle(model: Model, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / preview.TABLE).write_text("{")
    codec = replace(model.codec)
    raw = codec.encode(draw_references()[0]).raw
    assert torch.isfinite(to_preview(codec, raw)).all()


def test_steps_have_previews(model: Model) -> None:
    steps = list(model.generate(Request(prompt="a red cube", size=(64, 48), steps=3)))
    shown = [step.preview() for step in steps]
    assert [(one.width, one.height) for one in shown] == [(8, 6)] * 3
    last = F.avg_pool2d(steps[-1].images[0].image, 8)
    assert (shown[-1].image - last).abs().mean() < 0.25
    assert not torch.equal(shown[0].image, shown[-1].image)
