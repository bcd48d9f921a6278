"""What a training run finds in its folder is never overwritten unseen, and what is wrong with it is said in one line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

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
