"""A picture that was sampled and does not come to its end leaves its latent, and the command that decodes it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eightfold.codec.latentfile import read_latent
from eightfold.core.errors import LatentError
from eightfold.pipelines import generate

GENERATE = ("generate", "a red cube", "--size", "40x24", "--steps", "3", "--seed", "1")


def fail_with(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def decode_as_told(eightfold: Any, err: str) -> Any:
    line = next(line for line in err.splitlines() if "the latent is kept" in line)
    answer = eightfold(*shlex.split(line.partition("it: ")[2])[1:], "--out", "again.png")
    assert answer.code == 0, answer
    return line


@pytest.mark.parametrize(("error", "code"), [(LatentError("overflow", hint="wider"), 2), (RuntimeError("a bug"), 1), (MemoryError(), 2)])
def test_decoding_fails(eightfold: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int) -> None:
    assert eightfold(*GENERATE).code == 0
    picture = (tmp_path / "a-red-cube-1.png").read_bytes()
    (tmp_path / "a-red-cube-1.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(generate, "decode", fail_with(error))
        answer = eightfold(*GENERATE)
    assert answer.code == code
    assert "Undecoded" not in answer.err.splitlines()[-1]
    decode_as_told(eightfold, answer.err)
    from eightfold.codec.pixels import read_picture, write_picture

    again = read_picture("again.png")
    write_picture("plain.png", again.image)
    Path("first.png").write_bytes(picture)
    assert (again.image - read_picture("first.png").image).abs().max() < 0.02  # a rounding of the latent may move a pixel by one of 255


def test_a_cancelled_run(eightfold: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first picture stays, of the second what was expected at its last step."""
    (tmp_path / "a-red-cube-2.latent.safetensors").write_bytes(b"mine")
    seen = []

    def cancel(self: generate.GenerationStep, decoder: object = None) -> Any:
        seen.append(self)
        if self.seed == 2 and self.moment.index == 1:
            raise KeyboardInterrupt
        return self.decode()

    monkeypatch.setattr(generate.GenerationStep, "preview", cancel)
    answer = eightfold(*GENERATE, "--count", "2", "--preview", "now.png")
    assert answer.code == 130
    assert (tmp_path / "a-red-cube-1.png").exists() and not (tmp_path / "a-red-cube-2.png").exists()
    line = decode_as_told(eightfold, answer.err)
    assert "a-red-cube-2-2.latent.safetensors" in line
    assert (tmp_path / "a-red-cube-2.latent.safetensors").read_bytes() == b"mine"
    kept = read_latent(tmp_path / "a-red-cube-2-2.latent.safetensors")
    assert (kept.width, kept.height, kept.space) == (40, 24, "pocket")
    clean = seen[-1].clean
    assert (seen[-1].job.model.codec.normalise(kept.raw) - clean).abs().max() < 1e-5


def test_a_picture_that_cannot_be_written(eightfold: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eightfold.codec.pixels import Picture
    from eightfold.core.errors import OutputError

    monkeypatch.setattr(Picture, "save", fail_with(OutputError("no space", hint="make room")))
    answer = eightfold(*GENERATE)
    assert answer.code == 2 and "no space" in answer.err
    assert (tmp_path / "a-red-cube-1.latent.safetensors").exists()
