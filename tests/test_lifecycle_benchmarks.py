"""The benchmarks of starting a process and of switching models in one: what they make of their figures, and that they run."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from publicfiles import list_whole

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def run(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, FOLDER / script, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_switches_leave(take: Any) -> None:
    rows = [{"resident": size} for size in (70, 100, 120, 90, 104)]
    assert take("switching").judge(rows) == {"after two": 100, "last": 1.04, "most": 1.2}


def test_switching_runs(tmp_path: Path) -> None:
    assert "3 switches leave" in run("switching.py", "--quick", "--switches", "3", "--size", "32x32", "--json", str(tmp_path / "x.json"))
    found = json.loads((tmp_path / "x.json").read_text())
    assert [row["switch"] for row in found["rows"]] == [1, 2, 3]
    assert all(row["resident"] > row["weights"] > 10**6 for row in found["rows"])


def test_the_files_that_are_switched_are_public_ones(take: Any) -> None:
    shapes = take("switching").list_shapes()
    assert shapes == {name: shape for name, (_, shape) in list_whole("sd1", "base").items()}


def test_imports_are_counted_by_package(take: Any) -> None:
    text = "import time: self [us] | cumulative | imported package\n"
    text += (
        "import time:   1500000 |    2000000 |   torch._C\nimport time:  250000 |  250000 | torch\nimport time: 40 | 50 |     PIL.Image\n"
    )
    assert take("cold_start").count_imports(text) == pytest.approx({"torch": 1.75, "PIL": 4e-5})


def test_cold_start_runs(tmp_path: Path) -> None:
    """Ours alone: the process ends at the first step."""
    program = "import sys, cold_start; cold_start.find_spec = lambda name: None; cold_start.main()"
    arguments = ["--runs", "1", "--json", str(tmp_path / "x.json"), "--", "a red cube", "--size", "32x32", "--steps", "3"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["command"][:2] == ["generate", "a red cube"] and [*found["figures"]] == ["first step"]
    assert 0.1 < found["figures"]["first step"]["wall"] < 120 and found["figures"]["first step"]["cpu"] > 0.1
