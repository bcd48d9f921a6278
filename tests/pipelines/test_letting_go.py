"""A model that nobody holds is gone at once, with its files: what switching between models rests on (benchmarks/switching.py)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from weakref import ReferenceType, ref

import pytest
import torch
from torch import nn

from adapterfile import name_tensors
from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.pixels import Picture
from eightfold.nn.lowrank import LowRank
from eightfold.pipelines.bundle import load
from eightfold.pipelines.extras import Extras
from eightfold.pipelines.request import Guide, Request
from eightfold.text.clip import ClipTower
from eightfold.text.clipcondition import ClipConditioner
from toyfamilies import TOYS, install, write_control, write_file
from weights import draw

SIZE = (64, 64)
MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """So that cycles would stay: memory that waits for the collector may wait for long."""
    install(monkeypatch.setattr)
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path / "cache"))
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def write_beside(folder: Path) -> None:
    """A LoRA, a textual inversion and a ControlNet for the toy of Stable Diffusion 1."""
    toy = TOYS["sd1"].to_edition("base")
    query = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
    width = toy.denoiser.width
    tensors = name_tensors(LowRank(up=draw(width, 2), down=draw(2, width)), "lora_unet_" + query.replace(".", "_"), "kohya")
    tensors |= name_tensors(LowRank(up=draw(16, 2), down=draw(2, 16)), "lora_te_text_model_encoder_layers_0_self_attn_q_proj", "kohya")
    write_safetensors(folder / "lora.safetensors", tensors, {}, overwrite=False)
    write_safetensors(folder / "word.safetensors", {"emb_params": draw(2, 16)}, {}, overwrite=False)
    write_control(folder / "control.safetensors", toy)


def draw_with_all(folder: Path) -> list[ReferenceType[object]]:
    """Two passes begun from a picture, under a LoRA and a ControlNet, with previews."""
    picture = Picture(draw(1, 3, SIZE[1], SIZE[0], seed=1).clamp(-1, 1))
    extras = Extras(embeddings=(folder / "word.safetensors",), adapters=((folder / "lora.safetensors", 0.5),), skip=1)
    model = load(folder / "sd1.safetensors", extras=extras, device="cpu")
    guide = Guide(net=folder / "control.safetensors", picture=picture, prepare="canny")
    request = Request(prompt="a word", negative="b", start=picture, strength=0.9, steps=4, enlarge=2.0, size=SIZE, controls=(guide,))
    for step in model.generate(request):
        step.preview()
    assert step.images[0].image.shape[-2:] == SIZE
    net = step.job.guides[0].net
    return [ref(one) for one in (model, model.denoiser, model.codec, model.codec.network, *list_towers(model.text), net, step)]


def list_towers(text: object) -> tuple[ClipTower, ...]:
    return cast(ClipConditioner, text).towers


def draw_plainly(path: Path) -> list[ReferenceType[object]]:
    model = load(path, device="cpu")
    *_, last = model.generate(Request(prompt="a cat", size=SIZE, steps=1))
    assert torch.isfinite(last.noisy).all()
    return [ref(one) for one in (model, model.denoiser, cast(nn.Module, model.codec.network), *list_towers(model.text))]


@pytest.mark.parametrize("name", TOYS)
def test_a_model(tmp_path: Path, name: str) -> None:
    path = write_file(tmp_path / f"{name}.safetensors", TOYS[name].to_edition("base"))
    assert [one for one in draw_plainly(path) if one() is not None] == []
    assert not MAPS.exists() or str(path) not in MAPS.read_text()


def test_a_model_and_all_that_may_be_beside_it(tmp_path: Path) -> None:
    write_file(tmp_path / "sd1.safetensors", TOYS["sd1"].to_edition("base"))
    write_beside(tmp_path)
    assert [one for one in draw_with_all(tmp_path) if one() is not None] == []
    assert not MAPS.exists() or str(tmp_path) not in MAPS.read_text()


def test_a_run_that_was_broken_off(tmp_path: Path) -> None:
    """The generator holds the model; closed or dropped it holds nothing."""
    path = write_file(tmp_path / "sd1.safetensors", TOYS["sd1"].to_edition("base"))
    model = load(path, device="cpu")
    run = model.generate(Request(prompt="a cat", size=SIZE, steps=3))
    next(run)
    alive = ref(model.denoiser)
    del model
    assert alive() is not None
    del run
    assert alive() is None
