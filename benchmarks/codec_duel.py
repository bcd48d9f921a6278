"""Workers, one a contestant, that run in turn while the others sleep."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from codec_cases import CONTESTANTS, OURS, REFERENCE, Case, to_facts, to_space

import eightfold

WORKER = Path(__file__).with_name("codec_worker.py")
FIND = "import importlib.util, sys; print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])"
PAUSE = 0.1  # seconds, until the threads of the one before sleep
Say = Callable[[str], None]


class Lost(Exception):
    """A worker that did not answer, with the last line of what it said."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all cases share. `interpreter` runs ours and diffusers, `peer` the others; `waits` is how the threads of each wait."""

    threads: int
    folder: Path
    interpreter: str
    peer: str
    repeats: int | None = None
    waits: dict[str, str | None] = field(default_factory=dict)

    def to_python(self, contestant: str) -> str:
        return self.peer if CONTESTANTS[contestant].peer else self.interpreter


def build_environment(threads: int, wait: str | None = None) -> dict[str, str]:
    """That of this process, with the threads' settings alone that are asked for, and eightfold to be found in any interpreter."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))}
    paths = [str(Path(eightfold.__file__).parent.parent), *([kept["PYTHONPATH"]] if kept.get("PYTHONPATH") else [])]
    kept |= {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(paths)}
    return kept | ({} if wait is None else {"OMP_WAIT_POLICY": wait})


class Worker:
    """A process that loads one contestant and answers line by line."""

    def __init__(self, job: dict[str, Any], *, python: str, wait: str | None, folder: Path, script: Path = WORKER) -> None:
        path = folder / "job.json"
        path.write_text(json.dumps(job))
        self.said = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in `end`
        command = [python, str(script), str(path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.said}
        self.process = subprocess.Popen(command, text=True, env=build_environment(job["threads"], wait), **pipes)
        self.ready = self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.said.seek(0)
            lines = self.said.read().decode(errors="replace").strip().splitlines()
            last = lines[-1] if lines else f"exit status {code}"
            raise Lost(f"ended by signal {-code}, perhaps for want of memory" if code < 0 else last)
        return json.loads(line)

    def ask(self, what: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        time.sleep(PAUSE)
        try:
            self.process.stdin.write(what + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # reading says why
        return self.read()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.said.close()


def find_absent(setting: Setting, names: Sequence[str]) -> dict[str, str]:
    """Which contestants cannot take part, and why."""
    absent = {}
    for name in names:
        command = [setting.to_python(name), "-c", FIND, *CONTESTANTS[name].modules]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=build_environment(setting.threads))
        if name != OURS and (done.returncode or done.stdout.strip()):
            missing = ", ".join(done.stdout.split()) or done.stderr.strip().splitlines()[-1]
            absent[name] = f"not installed: {missing}"
    return absent


def to_job(case: Case, contestant: str, setting: Setting) -> dict[str, Any]:
    space = to_space(case.space, toy=case.toy)
    return {
        **asdict(case),
        "contestant": contestant,
        "modules": CONTESTANTS[contestant].modules if contestant in CONTESTANTS else (),
        "facts": to_facts(space),
        "weights": str(setting.folder / f"{case.network}.safetensors"),
        "input": str(setting.folder / f"{case.name}.npy"),
        "threads": setting.threads,
    }


def start(case: Case, contestant: str, setting: Setting, wait: str | None = None) -> Worker:
    return Worker(to_job(case, contestant, setting), python=setting.to_python(contestant), wait=wait, folder=setting.folder)


def prepare(case: Case, setting: Setting) -> None:
    """Weights, if no case before had the same, and the input; in a process of its own, so that this one stays small."""
    Worker(to_job(case, "prepare", setting), python=setting.interpreter, wait=None, folder=setting.folder).end()


def choose_waits(case: Case, names: Sequence[str], setting: Setting, say: Say) -> dict[str, dict[str, dict[str, float]]]:
    """How the threads of those who leave it open wait best, put into the setting; found out on a picture of 512x512 at most.

    The least product of wall and CPU seconds decides, because threads that spin may win one at the cost of the other. -> both, by way.
    """
    case, found = replace(case, side=min(case.side, 512)), {}
    prepare(case, setting)
    for name in names:
        waits = CONTESTANTS[name].waits
        setting.waits[name] = waits[0]
        if len(waits) > 1:
            say(f"{name}: trying how its threads should wait")
            with suppress(Lost):  # it will be lost in the contest too, which tells
                times = try_waits(case, name, setting)
                setting.waits[name] = min(waits, key=lambda wait: times[wait]["wall"] * times[wait]["cpu"])
                found[name] = {wait or "default": seconds for wait, seconds in times.items()}
    return found


def try_waits(case: Case, name: str, setting: Setting) -> dict[str | None, dict[str, float]]:
    """Each way of waiting twice after a warm-up, in turn: the least wall and CPU seconds."""
    workers: dict[str | None, Worker] = {}
    runs: dict[str | None, list[dict[str, float]]] = {wait: [] for wait in CONTESTANTS[name].waits}
    try:
        for wait in runs:
            workers[wait] = start(case, name, setting, wait)
            workers[wait].ask("run")
        for wait in (*runs, *reversed(runs)):
            runs[wait].append(workers[wait].ask("run"))
    finally:
        for worker in workers.values():
            worker.end()
    return {wait: {unit: min(run[unit] for run in done) for unit in ("wall", "cpu")} for wait, done in runs.items()}


def fight(case: Case, names: Sequence[str], setting: Setting, say: Say) -> dict[str, dict[str, Any]]:
    """Every contestant's runs: two warm-ups, whose second result is kept for the error, then in turn, every other round backwards."""
    results: dict[str, dict[str, Any]] = {}
    workers: dict[str, Worker] = {}
    skipped = dict(case.skip)
    for name in names:
        only = CONTESTANTS[name].only
        if only not in (None, (case.space, case.way)):
            skipped[name] = f"of this package only {' '.join(only)} can be timed"
    try:
        for name in names:
            results[name] = {"failed": skipped[name]} if name in skipped else {"wait": setting.waits.get(name) or "default", "runs": []}
            if name not in skipped:
                attempt(lambda name=name: open_worker(case, name, setting, workers, results, say), name, workers, results)
        for number in range(setting.repeats or case.repeats):
            say(f"{case.name}: round {number + 1}")
            for name in list(workers) if number % 2 == 0 else list(workers)[::-1]:
                attempt(lambda name=name: results[name]["runs"].append(workers[name].ask("run")), name, workers, results)
    finally:
        for worker in workers.values():
            worker.end()
    compare(results, setting.folder)
    return results


def open_worker(case: Case, name: str, setting: Setting, workers: dict[str, Worker], results: dict[str, Any], say: Say) -> None:
    say(f"{case.name}: {name} loads and warms up")
    workers[name] = start(case, name, setting, setting.waits.get(name))
    results[name] |= {**workers[name].ready, "warm-up": workers[name].ask("run"), "second": workers[name].ask("run")}
    workers[name].ask(f"save {setting.folder / f'{name}.npy'}")


def attempt(work: Callable[[], object], name: str, workers: dict[str, Worker], results: dict[str, Any]) -> None:
    """One who fails is out, and the others go on."""
    try:
        work()
    except Lost as error:
        results[name] = {"failed": str(error)}
        if name in workers:
            workers.pop(name).end()


def compare(results: dict[str, dict[str, Any]], folder: Path) -> None:
    """The largest difference of each first result from the reference's, and the PSNR in dB for values from -1 to 1."""
    path = folder / f"{REFERENCE}.npy"
    if "failed" in results.get(REFERENCE, {"failed": ""}):
        return
    reference = np.load(path)
    results[REFERENCE]["spread of the result"] = float(reference.std())
    for name, result in results.items():
        if name != REFERENCE and "failed" not in result and CONTESTANTS[name].compared:
            other = np.load(folder / f"{name}.npy").astype(np.float64)
            square = float(np.mean((other - reference) ** 2)) if other.shape == reference.shape else float("nan")
            result["largest error"] = float(np.abs(other - reference).max()) if other.shape == reference.shape else float("nan")
            result["PSNR"] = float(10 * np.log10(4 / square)) if square else None
