"""The settings on the page about few steps can be asked for, as they are printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from eightfold.cli.main import run
from eightfold.families.sd1 import SD1

PAGE = Path(__file__).parent.parent / "docs" / "few-steps.md"
COMMANDS = re.findall(r"^eightfold (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the embedded model in place of the files."""
    words = shlex.split(re.sub(r"--(model|lora) \S+", "", command))
    assert run([*words, "--explain", "--ignore-unknown"]) == 0, capsys.readouterr().err
    told = dict(re.findall(r"^(\w+) +(.+)$", capsys.readouterr().out, flags=re.MULTILINE))
    for name in ("sampler", "grid", "steps"):
        asked = re.search(rf"--{name} (\S+)", command)
        assert asked is None or told[name] == asked[1]


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 7 and sum("--guidance 1" in command for command in COMMANDS) == 5


def test_what_needs_no_settings() -> None:
    defaults = SD1.to_edition("lcm").defaults
    assert (defaults.steps, defaults.sampler, defaults.grid) == (4, "lcm", "lcm")
