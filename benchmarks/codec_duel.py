"""Workers, one a contestant, that run in turn while the others sleep."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from codec_cases import CONTESTANTS, OURS, REFERENCE, Case, to_facts, to_space

import eightfold

WORKER = Path(__file__).with_name("codec_worker.py")
FIND = "import importlib.util, sys; print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])"
Say = Callable[[str], None]


class Lost(Exception):
    """A worker that did not answer, with the last line of what it said."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all cases share. `interpreters` name those of contestants that do not run in this one."""

    threads: int
    folder: Path
    interpreter: str
    peer: str
    repeats: int | None = None
    waits: dict[str, str | None] = field(default_factory=dict)

    def to_python(self, contestant: str) -> str:
        return self.peer if CONTESTANTS[contestant].peer else self.interpreter


class Worker:
    """A process that loads one contestant and answers line by line."""

    def __init__(self, job: dict[str, Any], *, python: str, wait: str | None, folder: Path, script: Path = WORKER) -> None:
        path = folder / "job.json"
        path.write_text(json.dumps(job))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))}
        paths = [str(Path(eightfold.__file__).parent.parent), *([kept["PYTHONPATH"]] if kept.get("PYTHONPATH") else [])]
        kept |= {"OMP_NUM_THREADS": str(job["threads"]), "PYTHONPATH": os.pathsep.join(paths)}
        kept |= {} if wait is None else {"OMP_WAIT_POLICY": wait}
        self.said = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in `end`
        command = [python, str(script), str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True, env=kept)
        self.ready = self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.said.seek(0)
            lines = self.said.read().decode(errors="replace").strip().splitlines()
            raise Lost(lines[-1] if lines else f"ended by signal {-code}, perhaps for want of memory" if code < 0 else f"ended with {code}")
        return json.loads(line)

    def ask(self, what: str) -> dict[str, Any]:
        assert self.process.stdin is not None
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
        done = subprocess.run(command, capture_output=True, text=True, check=False)
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


def choose_waits(case: Case, names: Sequence[str], setting: Setting, say: Say) -> dict[str, dict[str, float]]:
    """How the threads of those who leave it open wait best, put into the setting; found out on a picture of 512x512 at most.

    Each way of waiting twice after a warm-up, in turn; the least wall seconds decide, and are returned by way.
    """
    case, found = replace(case, side=min(case.side, 512)), {}
    prepare(case, setting)
    for name in names:
        waits = CONTESTANTS[name].waits
        setting.waits[name] = waits[0]
        if len(waits) < 2:
            continue
        say(f"{name}: trying how its threads should wait")
        workers = {wait: start(case, name, setting, wait) for wait in waits}
        times: dict[str | None, list[float]] = {wait: [] for wait in waits}
        try:
            for repeat in range(3):
                for wait, worker in workers.items():
                    wall = worker.ask("run")["wall"]
                    times[wait] += [wall] if repeat else []
        finally:
            for worker in workers.values():
                worker.end()
        setting.waits[name] = min(waits, key=lambda wait: min(times[wait]))
        found[name] = {wait or "default": min(times[wait]) for wait in waits}
    return found


def fight(case: Case, names: Sequence[str], setting: Setting, say: Say) -> dict[str, dict[str, Any]]:
    """Every contestant's runs: one warm-up, whose result is kept for the error, then in turn, every other round backwards."""
    results: dict[str, dict[str, Any]] = {}
    workers: dict[str, Worker] = {}
    skipped = dict(case.skip)
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
    results[name] |= {**workers[name].ready, "warm-up": workers[name].ask("run")}
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
        if name != REFERENCE and "failed" not in result:
            other = np.load(folder / f"{name}.npy").astype(np.float64)
            square = float(np.mean((other - reference) ** 2)) if other.shape == reference.shape else float("nan")
            result["largest error"] = float(np.abs(other - reference).max()) if other.shape == reference.shape else float("nan")
            result["PSNR"] = float(10 * np.log10(4 / square)) if square else None
