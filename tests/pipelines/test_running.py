"""By which kernels a denoiser is run, and that it says so."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace

import pytest
import torch

from eightfold.codec.engine import Engine
from eightfold.core.device import choose_placement
from eightfold.denoisers.unet import ControlResiduals, UNet, to_vector
from eightfold.nn import streams as fast_streams
from eightfold.nn.fast import FastKernels
from eightfold.nn.kernels import ready
from eightfold.nn.kernels.ready import Availability
from eightfold.pipelines import running
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.generate import resolve
from eightfold.pipelines.request import Request
from eightfold.pipelines.running import choose_runner, count_operations, foresee, to_record
from eightfold.specs.network import UNetConfig, VectorConfig
from weights import draw, randomise

pytest.importorskip("numba")

VECTOR = VectorConfig(pooled=8, numbers=("height", "width"), sinusoid=8)
TOY = UNetConfig(channels=4, out_channels=4, context=16, width=32, multipliers=(1, 2), blocks=1, attention=(0, 1), heads=2, groups=8)
PLACE = choose_placement("cpu", "float32")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are there, for work of any size."""
    monkeypatch.setattr(running, "WORTH", 0)
    monkeypatch.setattr(fast_streams, "LEAST", 0)
    monkeypatch.setattr(Engine, "take_kernels", lambda _: (FastKernels(8, 1), ""))


def build(config: UNetConfig = TOY) -> UNet:
    return randomise(UNet(config), 0).requires_grad_(False)


@pytest.mark.parametrize("vector", [None, VECTOR])
@torch.no_grad()
def test_what_is_run_is_the_denoiser(vector: VectorConfig | None, fast: None) -> None:
    unet = build(replace(TOY, vector=vector))
    told = None if vector is None else to_vector(vector, draw(2, 8, seed=3), {"height": 8.0, "width": 6.0})
    given = (draw(2, 4, 9, 6), torch.tensor([500.5, 3.0]), draw(2, 5, 16, seed=1), told)
    run, expected = choose_runner(unet, PLACE, Engine()), unet(*given)
    found = run(*given)
    assert (found - expected).abs().max() < 2e-4 * expected.abs().max() and not torch.equal(found, expected)
    assert str(to_record(unet)["denoiser_kernels"]).startswith("Winograd")


@torch.no_grad()
def test_what_a_controlnet_adds_is_added(fast: None) -> None:
    unet, given = build(), (draw(1, 4, 8, 6), torch.tensor([500.5]), draw(1, 5, 16, seed=1))
    sizes = ((32, 8, 6), (32, 8, 6), (32, 4, 3), (64, 4, 3))
    added = ControlResiduals(tuple(draw(1, *size, seed=number) for number, size in enumerate(sizes)), draw(1, 64, 4, 3, seed=9))
    found, expected = choose_runner(unet, PLACE, Engine())(*given, None, added), unet(*given, None, added)
    assert (found - expected).abs().max() < 2e-4 * expected.abs().max()
    assert not torch.allclose(expected, unet(*given), atol=1e-2)


def test_a_vector_that_is_missing(fast: None) -> None:
    unet = build(replace(TOY, vector=VECTOR))
    with pytest.raises(ValueError, match="told a vector"):
        choose_runner(unet, PLACE, Engine())(draw(1, 4, 8, 8), torch.tensor([1.0]), draw(1, 5, 16))


def test_little_work_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "available_soon", lambda _: pytest.fail("nothing is to be loaded"))
    unet, given = build(), (draw(1, 4, 8, 8), torch.tensor([1.0]), draw(1, 5, 16))
    assert torch.equal(choose_runner(unet, PLACE, Engine())(*given), unet(*given))
    assert to_record(unet) == {"denoiser_kernels": running.PLAIN}


def test_kernels_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "WORTH", 0)
    monkeypatch.setattr(ready, "available_soon", lambda _: Availability(usable=False, reason="not in this test"))
    engine, unet, given = Engine(), build(), (draw(1, 4, 8, 8), torch.tensor([1.0]), draw(1, 5, 16))
    assert torch.equal(choose_runner(unet, PLACE, engine)(*given), unet(*given))
    assert to_record(unet) == {"denoiser_kernels": running.PLAIN, "denoiser_kernels_reason": "not in this test"}
    assert list(engine.notes) == ["not in this test"]


def test_what_will_run_is_foreseen(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    leg = resolve(model, Request(prompt="a red cube", size=(64, 64), steps=2)).legs[0]
    running.KEPT.pop(model.denoiser, None)
    assert foresee(model, leg) == {"denoiser_kernels": running.PLAIN}
    monkeypatch.setattr(running, "WORTH", 0)
    monkeypatch.setattr(Engine, "take_kernels", lambda _: (FastKernels(8, 1), ""))
    assert str(foresee(model, leg)["denoiser_kernels"]).startswith("Winograd")
    running.KEPT.pop(model.denoiser, None)


def test_work_is_counted() -> None:
    """By hand: what every 3x3 convolution multiplies, a U-Net of two levels on 8x6 cells, whose lower level has 4x3."""
    above, below = 4 * 32 + 2 * 32 * 32 + (96 * 32 + 32 * 32) + (64 * 32 + 32 * 32) + 32 * 4, 64 * 64 * 4
    below += 32 * 32 + (32 * 64 + 64 * 64) + (128 * 64 + 64 * 64) + (96 * 64 + 64 * 64)
    above += 64 * 64  # the way up
    assert count_operations(build().stages(), (2, 4, 8, 6)) == 2.0 * 2 * 9 * (48 * above + 12 * below)


@torch.no_grad()
def test_a_denoiser_is_not_kept_alive(fast: None) -> None:
    unet, engine = build(), Engine()
    choose_runner(unet, PLACE, engine)(draw(1, 4, 8, 8), torch.tensor([1.0]), draw(1, 5, 16))
    gone = weakref.ref(unet)
    del unet
    assert gone() is None


def test_a_picture_says_what_drew_it(model: Model, fast: None) -> None:
    *_, last = model.generate(Request(prompt="a red cube", size=(64, 64), steps=2))
    assert json.loads(last.images[0].metadata["eightfold"])["denoiser_kernels"].startswith("Winograd")
    running.KEPT.pop(model.denoiser, None)
