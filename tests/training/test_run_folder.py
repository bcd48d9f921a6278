"""What a training run finds in its folder is never overwritten unseen, and what is wrong with it is said in one line."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from eightfold.checkpoints.formats import read_safetensors_header
from eightfold.core.errors import EightfoldError, OutputError
from eightfold.data.pictures import PictureConfig, shard_path, write_shard
from eightfold.training.autoencoder import WEIGHTS, train_autoencoder
from eightfold.training.config import AutoencoderConfig, Schedule
from eightfold.training.loop import LOG, shorten_log

PICTURES = PictureConfig(scenes=2, size=16)
CONFIG = AutoencoderConfig(space="pocket", pictures=PICTURES, schedule=Schedule(steps=1, batch=1, rate=1e-3), crops=(16,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder whose pictures are drawn already."""
    write_shard(PICTURES, tmp_path, 0)
    return tmp_path


def test_weights_that_are_there_before_the_first_step_are_kept(folder: Path):
    (folder / WEIGHTS).write_text("precious")
    with pytest.raises(OutputError):
        list(train_autoencoder(CONFIG, folder))
    assert (folder / WEIGHTS).read_text() == "precious"


def test_a_truncated_shard_is_named(folder: Path):
    path = shard_path(PICTURES, folder, 0)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EightfoldError, match=path.name):
        list(train_autoencoder(CONFIG, folder))


@pytest.mark.parametrize("line", ['{"loss": 1}', "[1, 2]", "3"])
def test_a_log_line_of_another_program_is_no_crash(tmp_path: Path, line: str):
    (tmp_path / LOG).write_text(line + "\n" + json.dumps({"step": 1}) + "\n")
    shorten_log(tmp_path / LOG, 1)
    assert json.dumps({"step": 1}) in (tmp_path / LOG).read_text()


@pytest.mark.parametrize(
    "changed",
    [
        {"crops": ()},
        {"crops": (32,)},
        {"crops": (12,)},
        *({"schedule": {name: 0}} for name in ("steps", "batch", "log_every", "checkpoint_every")),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(folder: Path, changed: dict):
    if "schedule" in changed:
        changed = {"schedule": {**vars(CONFIG.schedule), **changed["schedule"]}}
        with pytest.raises(EightfoldError):
            list(train_autoencoder(replace(CONFIG, schedule=Schedule(**changed["schedule"])), folder))
    else:
        with pytest.raises(EightfoldError):
            list(train_autoencoder(replace(CONFIG, **changed), folder))


def test_a_full_disk_keeps_the_last_checkpoint(folder: Path):
    """Run in a process whose files may not grow past the second checkpoint's size."""
    program = f"""
import resource, signal, sys
from pathlib import Path
from dataclasses import replace
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_run_folder import CONFIG
from eightfold.checkpoints.formats import read_safetensors_header
from eightfold.core.errors import OutputError
from eightfold.training.autoencoder import train_autoencoder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
config = replace(CONFIG, schedule=replace(CONFIG.schedule, steps=3, checkpoint_every=1))
try:
    for progress in train_autoencoder(config, Path({str(folder)!r})):
        if progress.number == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
except OutputError as error:
    assert error.hint
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 7
    assert read_safetensors_header(folder / "checkpoint.safetensors").metadata["step"] == "2"
    assert not list(folder.glob(".*"))


def test_workers_end_with_their_parent(tmp_path: Path):
    """kill -9 of a run that renders leaves no process behind."""
    program = f"""
import os, sys
from pathlib import Path
from eightfold.data.pictures import PictureConfig, draw_pictures
if __name__ == "__main__":
    for progress in draw_pictures(PictureConfig(scenes=100_000, size=32), Path({str(tmp_path)!r})):
        print("started", flush=True)
"""
    script = tmp_path / "draw.py"
    script.write_text(program)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "started\n"
    workers = list_children(parent.pid)
    assert workers
    parent.kill()
    parent.wait()
    end = time.monotonic() + 60
    while any(is_alive(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in workers if is_alive(pid)]


def list_children(parent: int) -> list[int]:
    """Processes, by /proc; empty where there is none."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_what_a_killed_run_left_half_written_is_cleared(folder: Path):
    left = folder / ".checkpoint.0123456789ab.safetensors"
    left.write_bytes(b"half")
    list(train_autoencoder(CONFIG, folder))
    assert not left.exists() and (folder / WEIGHTS).exists()
