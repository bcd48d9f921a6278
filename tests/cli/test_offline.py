"""Models on this disk are drawn with, and names of a hub refused, without a single socket: a guard watches from the interpreter's start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from pocketfile import POCKET_FILE, read_size
from toyfamilies import TOYS, write_file, write_folder

TESTS = Path(__file__).parent.parent
GUARD = """
import os, sys

def watch(event, arguments):
    if event.startswith("socket."):
        with open(os.environ["SOCKETS"], "a") as file:
            print(event, arguments, file=file)
        raise RuntimeError(f"{event} {arguments}")

sys.addaudithook(watch)
"""
COMMANDS = """
import shlex, sys
import toyfamilies
toyfamilies.install()
from eightfold.cli.main import run
print("CODES", *[run(shlex.split(line)) for line in sys.argv[1:]])
"""
SMALL = "--size 32x32 --steps 1"


class Done(NamedTuple):
    code: int
    out: str
    err: str
    sockets: str  # what was tried


@pytest.fixture
def guarded(tmp_path: Path):
    """Runs Python with arguments in an empty folder; whatever has to do with sockets is written down and fails."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    (tmp_path / "here").mkdir()
    places = [tmp_path / "guard", TESTS.parent / "src", TESTS]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, places)), "SOCKETS": str(tmp_path / "sockets"), "OMP_NUM_THREADS": "1"}
    environment |= {"EIGHTFOLD_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hub")}

    def call(*arguments: str) -> Done:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True, check=False)
        tried = tmp_path / "sockets"
        return Done(done.returncode, done.stdout, done.stderr, tried.read_text() if tried.exists() else "")

    return call


def test_the_guard_sees_sockets(guarded) -> None:
    """Names that are looked up, too, and what is caught by those who try."""
    done = guarded("-c", "import socket\ntry: socket.getaddrinfo('example.org', 80)\nexcept RuntimeError: socket.socket()")
    assert done.code != 0 and "socket.getaddrinfo" in done.sockets and "socket.__new__" in done.sockets


def test_the_pocket_model(guarded, tmp_path: Path) -> None:
    shutil.copy(POCKET_FILE, tmp_path / "here" / "model.safetensors")
    done = guarded("-m", "eightfold", "generate", "a red cube", "--model", "model.safetensors", "--out", "x.png", *SMALL.split())
    assert (done.code, done.sockets) == (0, ""), done
    assert read_size(tmp_path / "here" / "x.png") == (32, 32)


def test_models_with_text_towers(guarded, tmp_path: Path) -> None:
    """With the libraries that these take: transformers, tokenizers and, for the name, huggingface_hub."""
    here, toy = tmp_path / "here", TOYS["sd1"].to_edition("base")
    write_file(here / "sd.safetensors", toy)
    write_folder(here / "sd", toy)
    lines = [f'generate "a cat" --model {name} --out {name}.png {SMALL}' for name in ("sd.safetensors", "sd")]
    lines += [f'generate "a cat" --model OWNER/NAME --offline {SMALL}', "encode sd.png --offline"]
    done = guarded("-c", COMMANDS, *lines)
    assert done.out.splitlines()[-1] == "CODES 0 0 2 0", done
    assert "OWNER/NAME: offline, and it was never fetched" in done.err
    assert done.sockets == ""
    assert read_size(here / "sd.safetensors.png") == read_size(here / "sd.png") == (32, 32)
