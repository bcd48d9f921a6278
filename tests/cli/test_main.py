"""The command line as a whole: help, versions, exit codes, streams."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from eightfold.cli import (
    console,
    convert,
    enlarge,
    evaluate,
    generate,
    identify,
    info,
    match,
    models,
    noise,
    roundtrip,
    sheet,
    train,
    transcode,
    walk,
)
from eightfold.cli.console import Bars, show_progress, track
from eightfold.cli.main import VERBS
from eightfold.core.progress import Progress
from pocketfile import read_size, write_photo

FUNCTIONS = {
    "generate": generate.generate,
    "sheet": sheet.sheet,
    "encode": transcode.encode,
    "decode": transcode.decode,
    "roundtrip": roundtrip.roundtrip,
    "enlarge": enlarge.enlarge,
    "noise": noise.noise,
    "walk": walk.walk,
    "identify": identify.identify,
    "models": models.models,
    "match": match.match,
    "convert": convert.convert,
    "info": info.info,
}
WEIGHTS = ("--model", "--vae", "--device", "--dtype")
RESULT = ("--out", "--overwrite", "--json")
SAMPLING = (
    "--negative",
    "--size",
    "--steps",
    "--sampler",
    "--grid",
    "--guidance",
    "--rescale",
    "--interval",
    "--handover",
    "--picture-guidance",
    "--eta",
    "--seed",
    "--noise-source",
    "--ignore-unknown",
    "--variation",
)
BEGINNING = (
    "--start",
    "--strength",
    "--mask",
    "--feather",
    "--outpaint",
    "--only-masked",
    "--raw",
    "--control",
    "--enlarge",
    "--enlarge-model",
)
BESIDE = ("--text", "--embedding", "--lora", "--clip-skip", "--prediction", "--refiner")
OPTIONS = {
    "generate": (
        *WEIGHTS,
        *RESULT,
        *SAMPLING,
        *BEGINNING,
        *BESIDE,
        "--count",
        "--prompts",
        "--like",
        "--preview",
        "--preview-vae",
        "--film",
        "--explain",
    ),
    "sheet": (*WEIGHTS, *RESULT, *SAMPLING, *BEGINNING, *BESIDE, "--across", "--down"),
    "encode": (*WEIGHTS, *RESULT, "--sample", "--mode", "--seed"),
    "decode": (*WEIGHTS, *RESULT, "--force"),
    "roundtrip": (*WEIGHTS, *RESULT, "--sample", "--mode", "--seed", "--cycles", "--report", "--space"),
    "enlarge": ("--model", "--device", "--dtype", "--memory", *RESULT),
    "noise": (*WEIGHTS, *RESULT, "--at", "--seed"),
    "walk": (*WEIGHTS, *RESULT, *SAMPLING, "--frames"),
    "identify": ("--measure", "--picture", "--remember", "--json"),
    "models": ("--json",),
    "match": ("--json",),
    "convert": ("--layout", "--dtype", "--component", "--overwrite", "--json"),
    "info": ("--json",),
    "train autoencoder": ("--out", "--resume", "--json"),
    "train denoiser": ("--out", "--resume", "--json"),
    "evaluate pocket": ("--model", "--out", "--pictures", "--json"),
}
ENVIRONMENT = {**{name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}, "OMP_NUM_THREADS": "1"}
LIGHT = """
import sys
from eightfold.cli.main import run
code = run([{arguments}])
print([name for name in ({heavy}) if name in sys.modules], code)
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_verbs(eightfold: Any, arguments: tuple[str, ...]) -> None:
    answer = eightfold(*arguments)
    assert answer.code == 0 and answer.err == ""
    assert answer.out.startswith("Usage: eightfold COMMAND")
    assert all(f"\n  {name} " in answer.out for name in VERBS)


def test_the_summaries_are_the_functions_own() -> None:
    own = {name: (function.__doc__ or "").splitlines()[0] for name, function in FUNCTIONS.items()}
    assert {**own, "train": train.app.help, "evaluate": evaluate.app.help} == VERBS


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_verb_has_help(eightfold: Any, verb: str) -> None:
    answer = eightfold(*verb.split(), "--help")
    assert answer.code == 0 and answer.err == ""
    assert all(f" {option} " in answer.out for option in OPTIONS[verb])
    assert "None" not in answer.out and "--no-" not in answer.out


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        ("'--help'", "'torch', 'numpy', 'pydantic', 'cyclopts', 'rich', 'PIL'"),
        ("'--version'", "'torch', 'numpy', 'pydantic', 'cyclopts', 'rich', 'PIL'"),
        ("'generate', '--help'", "'torch', 'numpy', 'pydantic', 'PIL'"),
        ("'train', 'denoiser', '--help'", "'torch', 'numpy', 'pydantic', 'PIL'"),
    ],
)
def test_help_imports_nothing_heavy(arguments: str, heavy: str) -> None:
    program = LIGHT.format(arguments=arguments, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert done.stderr == ""


def test_version(eightfold: Any) -> None:
    assert eightfold("--version") == (0, f"{version('eightfold')}\n", "")


def test_as_a_user_types_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eightfold", "generate", "a red cube", "--size", "48x32", "--steps", "1", "--out", "pictures"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "pictures/a-red-cube-0.png\n")
    assert done.stderr.startswith("ran on ") and done.stderr.count("\n") == 1
    assert read_size(tmp_path / "pictures" / "a-red-cube-0.png") == (48, 32)
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and "exists already" in done.stderr


def test_a_bug_keeps_its_traceback(eightfold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise ZeroDivisionError(str(path))

    monkeypatch.setattr("eightfold.pipelines.inspect.read_info", fail)
    answer = eightfold("info", "x.png")
    assert answer.code == 1 and answer.out == ""
    assert "Traceback" in answer.err and "ZeroDivisionError: x.png" in answer.err and "Hint:" in answer.err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")])
def test_too_little_memory_is_no_bug(refuse: Any, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr("eightfold.pipelines.inspect.read_info", fail)
    assert "not enough memory" in refuse("info", "x.png")


def test_cancelled(eightfold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eightfold.pipelines.inspect.read_info", fail)
    answer = eightfold("info", "x.png")
    assert answer.code == 130 and answer.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("generate", "x", "--bogus"), ("noise",), ("walk", "a"), ("train", "autoencoder"), ("train", "x"), ("--bogus",)]
)
def test_wrong_usage(refuse: Any, arguments: tuple[str, ...]) -> None:
    assert "--help`" in refuse(*arguments)


def test_a_reader_that_went_away(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "eightfold", "--help"], stdout=writing, stderr=subprocess.PIPE, env=ENVIRONMENT)
    os.close(writing)
    assert (done.returncode, done.stderr) == (130, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_for_standard_output() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "eightfold", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "Hint:" in done.stderr


def test_names_cannot_steer_the_terminal(refuse: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "x.png", 8, 8)
    line = refuse("info", "\x1b[31mred.png")
    assert "\x1b" not in line and "\\x1b[31mred.png" in line


def test_bars_leave_standard_output_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with show_progress() as update:
        assert update.__self__.timer.interval == 1
    with Bars() as bars:
        bars.update(Progress(task="work", number=0, total=2))
        bars.show()  # as the timer does
        bars.update(Progress(task="work", number=1, total=2, figures={"loss": 0.25}))
        console.say("a result")
        console.warn("a warning")
        bars.rich.refresh()
    assert capsys.readouterr().out == "a result\n"
    shown = terminal.getvalue()
    assert "a warning" in shown and "work" in shown and "1/2" in shown and "loss 0.25" in shown


def test_an_item_counts_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(console.Lines, "update", lambda self, progress: seen.append(progress.number))
    during = [list(seen) for _ in track("work", "abc", 3)]
    assert [numbers[-1] for numbers in during] == [0, 1, 2] and seen[-1] == 3
