"""The loop: its schedule, its average, and that a killed run resumed goes through the same numbers as one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import torch
from safetensors import safe_open
from torch import nn

from eightfold.core.errors import CheckpointError, EightfoldError, OutputError
from eightfold.training.config import Schedule
from eightfold.training.ema import Average
from eightfold.training.loop import open_run, run_training, shorten_log, to_rate

AUTOENCODER = """
space = "pocket"
crops = [16, 32]
[pictures]
scenes = 6
textures = 6
size = 32
[schedule]
steps = 12
batch = 2
rate = 1e-3
warmup = 3
log_every = 1
checkpoint_every = 4
"""

DENOISER = """
family = "pocket"
autoencoder = "{autoencoder}"
[pictures]
scenes = 12
size = 32
[schedule]
steps = 8
batch = 2
rate = 1e-3
optimiser = "muon"
warmup = 3
log_every = 1
checkpoint_every = 3
"""


def train(kind, config, out, *more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "eightfold", "train", kind, str(config), "--out", str(out), *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def read_log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder):
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in read_log(folder)]


def kill_after(process, folder, lines):
    """kill -9 once the log has some lines."""
    log = folder / "log.jsonl"
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        if log.exists() and log.read_text().count("\n") >= lines:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait()
    return process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One uninterrupted run of both stages."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "autoencoder.toml").write_text(AUTOENCODER)
    finish(train("autoencoder", folder / "autoencoder.toml", folder / "autoencoder"))
    (folder / "denoiser.toml").write_text(DENOISER.format(autoencoder=folder / "autoencoder" / "autoencoder.safetensors"))
    finish(train("denoiser", folder / "denoiser.toml", folder / "denoiser"))
    return folder


@pytest.mark.parametrize("kind, lines", [("autoencoder", 6), ("denoiser", 5)])
def test_killed_and_resumed_equals_uninterrupted(trained, tmp_path, kind, lines):
    config = trained / f"{kind}.toml"
    killed = kill_after(train(kind, config, tmp_path), tmp_path, lines)
    assert killed, "the run ended before it could be killed"
    before = len(read_log(tmp_path))
    assert before < len(losses(trained / kind))
    finish(train(kind, config, tmp_path, "--resume"))
    assert losses(tmp_path) == losses(trained / kind)
    for name in ("autoencoder.safetensors", "model.safetensors"):
        if (trained / kind / name).exists():
            assert (tmp_path / name).read_bytes() == (trained / kind / name).read_bytes()


def test_a_run_is_not_overwritten(trained):
    process = train("autoencoder", trained / "autoencoder.toml", trained / "autoencoder")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and "--resume" in err and len(err.strip().splitlines()) == 1


def test_other_settings_do_not_resume(trained, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(AUTOENCODER.replace("rate = 1e-3", "rate = 2e-3"))
    process = train("autoencoder", other, trained / "autoencoder", "--resume")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and "other settings" in err


def test_the_autoencoder_file_says_what_it_is(trained):
    with safe_open(str(trained / "autoencoder" / "autoencoder.safetensors"), framework="pt") as file:
        metadata = file.metadata()
    assert metadata["eightfold.space"] == "pocket"
    scale, shift = (json.loads(metadata[f"eightfold.{name}"]) for name in ("scale", "shift"))
    assert len(scale) == len(shift) == 4 and all(value > 0 for value in scale)


def test_the_trained_model_generates(trained):
    import eightfold as ef

    model = ef.load(trained / "denoiser" / "model.safetensors", device="cpu")
    *_, last = model.generate(ef.Request(prompt="a red cube", steps=2, size=(32, 40)))
    assert last.images[0].image.shape == (1, 3, 40, 32)


def quadratic(module):
    return lambda step: ((module.weight - step % 3).square().sum(), {})


def collect(folder, schedule, *, resume=False, stop=None):
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    run = open_run(folder, "weights", {"steps": schedule.steps}, resume=resume)
    for progress in run_training(module, quadratic(module), schedule, run):
        if progress.number == stop:
            return None
    return module.weight.clone()


def test_stopping_between_checkpoints_loses_nothing(tmp_path):
    schedule = Schedule(steps=20, batch=1, rate=0.1, warmup=2, log_every=1, checkpoint_every=6)
    whole = collect(tmp_path / "whole", schedule)
    assert collect(tmp_path / "parts", schedule, stop=15) is None
    assert torch.equal(collect(tmp_path / "parts", schedule, resume=True), whole)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_checkpoint_that_is_none(tmp_path):
    schedule = Schedule(steps=2, batch=1, rate=0.1)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint at all")
    with pytest.raises(OutputError, match="earlier run"):
        collect(tmp_path, schedule)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        collect(tmp_path, schedule, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    module = nn.Linear(1, 1)
    schedule = Schedule(steps=2, batch=1, rate=0.1)
    with pytest.raises(EightfoldError, match="not finite at step 1"):
        run = open_run(tmp_path, "weights", {}, resume=False)
        list(run_training(module, lambda step: (module.weight.sum() * float("nan"), {}), schedule, run))


def test_rate_rises_holds_and_falls():
    schedule = Schedule(steps=1000, batch=1, rate=2.0, warmup=100, hold=0.5, final=0.1)
    rates = [to_rate(step, schedule) for step in range(1001)]
    assert rates[0] == pytest.approx(0.02) and rates[49] == pytest.approx(1.0)
    assert set(rates[100:501]) == {2.0}
    assert all(a > b for a, b in pairwise(rates[501:1001]))
    assert rates[1000] == pytest.approx(0.2)


def test_average_follows_the_weights():
    module = nn.Linear(1, 1, bias=False)
    average = Average(module, 0.9)
    expected = module.weight.item()
    for step in range(50):
        nn.init.constant_(module.weight, step)
        average.update(module, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.weights["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_the_log_is_cut_at_the_checkpoint(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    shorten_log(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
