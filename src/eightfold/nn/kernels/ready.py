"""Whether the kernels can be used here, where their compiled code is kept, and how it is made without making anybody wait.

Compiling takes 10 to 15 seconds, once for a version of the code, of numba and of the CPU. It happens in a process of its own while the
plain way computes; that process also compares the kernels with torch, so that a CPU which cannot run them stops it and nothing else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...core.errors import OutputError
from ...core.files import write_atomically

SOURCES = Path(__file__).parent
RECORD = "checked.json"
SETTING = "CACHE_DIR"  # of numba: what the environment variable NUMBA_CACHE_DIR sets
STARTED: list[subprocess.Popen[bytes]] = []  # kept: Python warns of a process that is forgotten while it runs
PATIENCE = 300.0  # seconds after which a process that was to compile counts as lost


@dataclass(frozen=True, kw_only=True)
class Availability:
    """Whether the kernels can be used, with vectors of how many `lanes`; if not, why, in words for the user."""

    usable: bool
    reason: str = ""
    lanes: int = 0


def find_missing() -> str:
    """What is not installed, in words; empty where nothing is missing. Loads nothing."""
    with suppress(ImportError, ValueError):  # what a numba that somebody has blocked raises
        if importlib.util.find_spec("numba") is not None:
            return ""
    return "numba is not installed: pip install 'eightfold[fast]' makes convolutions on a CPU faster"


def read_features() -> dict[str, bool]:
    """What this CPU can do, by LLVM's names; nothing where LLVM does not know."""
    from llvmlite.binding import get_host_cpu_features

    with suppress(RuntimeError):
        return dict(get_host_cpu_features())
    return {}


def find_lanes() -> int:
    """How many float32 numbers the widest vectors of this CPU hold: 16, 8 or 4."""
    features = read_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


@cache
def name_version() -> str:
    """Changes with everything that compiled code depends on: our sources, numba, Python and the CPU."""
    import llvmlite
    import numba
    from llvmlite.binding import get_host_cpu_name

    parts = [path.read_bytes() for path in sorted(SOURCES.glob("*.py"))]
    words = [numba.__version__, llvmlite.__version__, sys.version, get_host_cpu_name(), repr(sorted(read_features().items()))]
    return hashlib.sha256(b"\0".join([*parts, *(word.encode() for word in words)])).hexdigest()[:16]


def to_home(folder: Path) -> Path:
    """Where this version's compiled code and the record of its check are, inside the `folder` that the caller keeps such things in."""
    return folder / name_version()


def load_kernels(folder: Path) -> None:
    """Import the kernels so that numba keeps their code in `folder`, unless NUMBA_CACHE_DIR says otherwise. Later calls change nothing."""
    from numba.core import config

    before = getattr(config, SETTING)
    if not before:
        setattr(config, SETTING, str(to_home(folder)))  # read where a kernel is defined; left set, it would hold for all code
    try:
        from . import layers  # noqa: F401
    finally:
        setattr(config, SETTING, before)


def self_check(lanes: int) -> str:
    """Compare a small case of every kernel with torch; what is wrong, in words, or nothing. Compiles what is not compiled yet."""
    from .check import find_difference

    try:
        return find_difference(sorted({lanes, min(8, lanes)}))
    except Exception as error:  # whatever a compiler throws: the plain way is always there
        return f"the kernels cannot be compiled here: {type(error).__name__}: {str(error)[:200]}"


@cache
def available(folder: Path) -> Availability:
    """Load, compile where that was not done before, and check: may take 15 seconds the first time. The answer holds for this process."""
    if missing := find_missing():
        return Availability(usable=False, reason=missing)
    try:
        load_kernels(folder)
    except Exception as error:  # a numba that does not fit this numpy fails while it is imported
        return Availability(usable=False, reason=f"numba cannot be loaded: {type(error).__name__}: {str(error)[:200]}")
    lanes = find_lanes()
    reason = self_check(lanes)
    return Availability(usable=not reason, reason=reason, lanes=lanes)


def available_soon(folder: Path) -> Availability:
    """The same without waiting: where nothing is compiled yet a process is started that does it, and until it is done the answer is no."""
    if missing := find_missing():
        return Availability(usable=False, reason=missing)
    record = read_record(folder)
    if record is None:
        record = {"since": time.time()}
        try:
            write_record(folder, **record)
            STARTED.append(start_compiling(folder))
        except (OSError, OutputError) as error:
            return Availability(usable=False, reason=f"the fast kernels cannot be kept: {error}")
    if "reason" not in record:
        if time.time() - float(str(record["since"])) > PATIENCE:
            return Availability(usable=False, reason=f"the kernels could not be compiled or tried; remove {to_home(folder)} to try again")
        return Availability(usable=False, reason="the fast kernels are being compiled; this once the plain way is taken")
    return Availability(usable=False, reason=str(record["reason"])) if record["reason"] else available(folder)


def read_record(folder: Path) -> dict[str, object] | None:
    """What is known of this version: since when it is being compiled, or with what result; None where nothing is, or where it is
    damaged.
    """
    with suppress(OSError, ValueError):
        found = json.loads((to_home(folder) / RECORD).read_text(encoding="utf-8"))
        if isinstance(found, dict) and ("reason" in found or isinstance(found.get("since"), float)):
            return found
    return None


def write_record(folder: Path, **record: object) -> None:
    with write_atomically(to_home(folder) / RECORD, overwrite=True) as temporary:
        temporary.write_text(json.dumps(record), encoding="utf-8")


def start_compiling(folder: Path) -> subprocess.Popen[bytes]:
    """A process that compiles, checks and records the result. It lives on if this one ends: the next run finds the work done."""
    root = str(SOURCES.parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", __spec__.name if __spec__ else __name__, str(folder)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def compile_and_record(folder: Path) -> None:
    """What that process does."""
    if hasattr(os, "nice"):
        os.nice(10)  # whoever waits for the plain way comes first
    write_record(folder, reason=available(folder).reason)


if __name__ == "__main__":
    compile_and_record(Path(sys.argv[1]))
