"""The command line called in this process, in an empty folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eightfold.cli.main import run


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def results(self) -> Any:
        """What --json printed: one line and nothing else."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def is_calm(self) -> bool:
        """Whether nothing is on standard error but one line that says where it ran, in which numbers, and why."""
        return self.err.startswith("ran on ") and self.err.endswith("; float32: no model overflows it\n") and self.err.count("\n") == 1


Call = Callable[..., Answer]


@pytest.fixture
def eightfold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture
def refuse(eightfold: Call, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail: code 2, one line with a hint, the folder as it was. Returns the line."""

    def call(*arguments: object) -> str:
        before = {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}
        answer = eightfold(*arguments)
        after = {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}
        assert answer.code == 2, answer
        assert answer.out == ""
        assert answer.err.count("\n") == 1 and answer.err.startswith("error: ") and "Hint: " in answer.err, answer.err
        assert "Traceback" not in answer.err
        assert after == before
        return answer.err

    return call


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is loaded all the same is a bug, which is exit code 1."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("eightfold.pipelines.bundle.load", fail)
    monkeypatch.setattr("eightfold.pipelines.bundle.load_autoencoder", fail)
