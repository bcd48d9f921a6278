"""Pictures made larger, whole and in tiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from eightfold.codec.engine import RESERVE
from eightfold.codec.pixels import Picture
from eightfold.core.errors import EightfoldError, RequestError
from eightfold.core.memory import measure_resident
from eightfold.pipelines import enlarge
from eightfold.pipelines.enlarge import Enlarger, check_enlarger, enlarge_picture, load_enlarger
from eightfold.specs.network import RRDBConfig
from rrdbfile import CONFIGS, build, run_plainly
from weights import draw


def build_enlarger(name: str = "x4", memory: int | None = None) -> Enlarger:
    return Enlarger(network=build(CONFIGS[name]), source="toy", memory=memory)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_picture_of_any_size(name: str) -> None:
    """Where pixels are folded, sides that do not fit are padded and cut again."""
    enlarger, image = build_enlarger(name), draw(1, 3, 13, 18).tanh()
    found = enlarger.enlarge(image)
    assert found.notes == () and found.image.shape == (1, 3, 13 * enlarger.factor, 18 * enlarger.factor)
    whole = run_plainly(enlarger.network.state_dict(), enlarger.network.config, (draw(1, 3, 16, 20).tanh() + 1) / 2) * 2 - 1
    again = enlarger.enlarge(draw(1, 3, 16, 20).tanh()).image
    assert torch.allclose(again, whole.clamp(-1, 1), atol=1e-5)


@pytest.mark.parametrize("name", ["x2", "x1", "x2, folded", "x1, folded"])
def test_tiles_are_the_whole_where_they_see_as_far_as_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block looks 19 cells far: where pixels are folded, that is more of them than the margin, and little is left of it."""
    enlarger, image, seen = build_enlarger(name), draw(1, 3, 200, 152).tanh(), []
    whole = enlarger.enlarge(image).image
    monkeypatch.setattr(Enlarger, "choose_tile", lambda self, height, width: 128)
    tiled = enlarger.enlarge(image, report=seen.append)
    assert tiled.notes == ("enlarged in tiles of 128 pixels",) and seen[-1].number == seen[-1].total == 12
    error = (tiled.image - whole).abs()
    assert error.max() < (1e-5 if enlarger.network.config.folding == 1 else 0.02) and whole.std() > 0.1


def test_deep_networks_in_tiles_are_near_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    enlarger, image = build_enlarger(), draw(1, 3, 150, 200).tanh()
    whole = enlarger.enlarge(image).image
    monkeypatch.setattr(Enlarger, "choose_tile", lambda self, height, width: 128)
    assert (enlarger.enlarge(image).image - whole).abs().max() < 1e-4


def test_memory_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    loose = build_enlarger()
    pixel = loose.count_bytes()
    monkeypatch.setattr(enlarge, "measure_free", lambda: pixel * 1000 * 1000)
    assert loose.choose_tile(500, 1000) == 1000
    assert 800 < loose.choose_tile(2000, 1000) < 1000
    monkeypatch.setattr(enlarge, "measure_free", lambda: None)
    assert loose.choose_tile(5000, 5000) == 5000
    rest = measure_resident() + RESERVE
    assert 150 < build_enlarger(memory=rest + 60 * pixel * 1000).choose_tile(300, 300) < 300
    with pytest.raises(RequestError, match="enlarging takes") as caught:
        build_enlarger(memory=rest).choose_tile(300, 300)
    assert "--memory" in caught.value.hint


def test_one_that_is_too_large() -> None:
    with pytest.raises(RequestError, match="each side can be at most"):
        build_enlarger().enlarge(torch.zeros(1, 3, 1, 5000))


def test_values_that_are_not_finite() -> None:
    enlarger = build_enlarger()
    enlarger.network.conv_last.bias.data.fill_(float("nan"))
    with pytest.raises(EightfoldError, match="not finite"):
        enlarger.enlarge(torch.zeros(1, 3, 8, 8))


def test_a_picture_keeps_its_alpha() -> None:
    picture = Picture(draw(1, 3, 8, 8).tanh(), alpha=torch.ones(1, 1, 8, 8), metadata={"parameters": "x"})
    made = enlarge_picture(build_enlarger("x2"), picture)
    assert made.alpha is not None and made.alpha.shape == (1, 1, 16, 16) and made.metadata == {}


def test_a_network_that_makes_smaller(tmp_path: Path) -> None:
    config = RRDBConfig(width=8, growth=4, blocks=1, doublings=1, folding=4)
    save_file(build(config).state_dict(), tmp_path / "x.safetensors")
    for load in (check_enlarger, load_enlarger):
        with pytest.raises(RequestError, match=r"0\.5 times larger"):
            load(tmp_path / "x.safetensors")
    assert replace(config, folding=1).factor == 2
