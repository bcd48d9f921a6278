"""What loading takes: the weights once, in the type that is computed in, and little beside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eightfold.checkpoints.load import let_go, read_tensors
from eightfold.checkpoints.save import write_safetensors

SIDE, LAYERS = 1500, 16
LOAD = f"""
import sys
from pathlib import Path
import torch
from torch import nn
from eightfold.checkpoints.load import load_module, read_tensors
from eightfold.core.memory import measure_resident

def build():
    return nn.ModuleList(nn.Linear({SIDE}, {SIDE}, bias=False) for _ in range({LAYERS}))

load_module(lambda: nn.Linear(8, 8), dict(weight=torch.ones(8, 8), bias=torch.ones(8)), source="a first one")
before = measure_resident()
Path("/proc/self/clear_refs").write_text("5")
module = load_module(build, read_tensors(sys.argv[1]), source=sys.argv[1])
highest = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print((int(highest.split()[1]) * 1024 - before) / sum(one.nbytes for one in module.parameters()))
print(float(sum(one.double().sum() for one in module.parameters())))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the most resident memory is told by Linux")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_the_peak_of_loading(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {f"{index}.weight": torch.full((SIDE, SIDE), index / 8, dtype=dtype) for index in range(LAYERS)}
    write_safetensors(tmp_path / "wide.safetensors", tensors, {}, overwrite=False)
    done = subprocess.run([sys.executable, "-c", LOAD, tmp_path / "wide.safetensors"], capture_output=True, text=True, check=True)
    share, total = (float(line) for line in done.stdout.split())
    assert share < 1.15
    assert total == sum(index / 8 for index in range(LAYERS)) * SIDE**2


def test_what_was_let_go_is_read_again(tmp_path: Path) -> None:
    """Pages that two tensors share stay; what is no part of a mapped file is left alone."""
    tensors = {"a": torch.arange(5000.0), "b": torch.arange(7000.0) + 0.5, "c": torch.ones(3)}
    write_safetensors(tmp_path / "few.safetensors", tensors, {}, overwrite=False)
    found = read_tensors(tmp_path / "few.safetensors")
    for tensor in [*found.values(), found["b"][100:3000], found["a"][::2], torch.ones(9000)]:
        let_go(tensor)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
