"""Networks that enlarge out of their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from eightfold.checkpoints.enlargers import read_enlarger, read_enlarger_config
from eightfold.core.device import choose_placement
from eightfold.core.errors import UnknownCheckpoint, WeightMismatch
from eightfold.specs.network import RRDBConfig
from rrdbfile import CONFIGS, build, to_middle, to_old

CPU = choose_placement("cpu")


@pytest.mark.parametrize("layout", ["new", "middle", "old", "wrapped"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_layout(config: RRDBConfig, layout: str, tmp_path: Path) -> None:
    tensors = build(config).state_dict()
    named = {"new": tensors, "middle": to_middle(tensors), "old": to_old(tensors, config)}
    named["wrapped"] = {f"module.{name}": tensor for name, tensor in tensors.items()}
    save_file(named[layout], tmp_path / "x.safetensors")
    assert read_enlarger_config(tmp_path / "x.safetensors") == config
    found = read_enlarger(tmp_path / "x.safetensors", CPU)
    assert found.config == config and not found.training
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in found.state_dict().items())


def test_an_archive_of_torch(tmp_path: Path) -> None:
    tensors = build(CONFIGS["x2"]).half().state_dict()
    torch.save({"params_ema": tensors}, tmp_path / "x.pth")
    found = read_enlarger(tmp_path / "x.pth", CPU).state_dict()
    assert all(found[name].dtype == torch.float32 and torch.equal(found[name], tensor.float()) for name, tensor in tensors.items())


def test_what_is_none(tmp_path: Path) -> None:
    tensors = build(CONFIGS["x2"]).state_dict()
    grey = {**tensors, "conv_first.weight": torch.zeros(8, 1, 3, 3)}
    for wrong in ({"a": torch.zeros(2)}, grey, {"conv_first.weight": torch.zeros(8)}, {"model.0.weight": torch.zeros(1, 3, 3, 3)}):
        save_file(wrong, tmp_path / "x.safetensors")
        with pytest.raises(UnknownCheckpoint, match="no network of ESRGAN's kind"):
            read_enlarger(tmp_path / "x.safetensors", CPU)
    save_file({**tensors, "body.0.rdb1.conv1x1.weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightMismatch, match="1 unknown"):
        read_enlarger(tmp_path / "x.safetensors", CPU)
