"""Whether the kernels are used: without numba, on a CPU where they fail, before they are compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eightfold.nn.kernels import ready


@pytest.fixture(autouse=True)
def fresh():
    ready.available.cache_clear()
    yield
    ready.available.cache_clear()


@pytest.fixture
def started(monkeypatch):
    """The folders for which a process would have been started."""
    pytest.importorskip("numba")
    folders = []
    monkeypatch.setattr(ready, "start_compiling", folders.append)
    return folders


def run_python(code):
    environment = {**os.environ, "PYTHONPATH": str(Path(ready.__file__).parents[3])}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


def test_the_package_loads_no_compiler():
    done = run_python("import sys, eightfold.nn.kernels.ready, eightfold.nn.kernels.direct; assert 'numba' not in sys.modules")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_numba_there_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(ready.importlib.util, "find_spec", lambda name: None)
    for answer in (ready.available(tmp_path), ready.available_soon(tmp_path)):
        assert not answer.usable
        assert "eightfold[fast]" in answer.reason
    assert not [*tmp_path.iterdir()]


def test_a_numba_that_is_blocked_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert "not installed" in ready.find_missing()


def test_a_numba_that_cannot_be_loaded_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(ready, "find_missing", lambda: "")
    monkeypatch.setattr(ready, "load_kernels", lambda folder: (_ for _ in ()).throw(ImportError("Numba needs NumPy 1.0")))
    assert ready.available(tmp_path) == ready.Availability(
        usable=False, reason="numba cannot be loaded: ImportError: Numba needs NumPy 1.0"
    )


def test_available_here(tmp_path):
    pytest.importorskip("numba")
    answer = ready.available(tmp_path)
    assert answer == ready.Availability(usable=True, lanes=ready.find_lanes())
    assert ready.available(tmp_path) is answer, "asked once"


def test_kernels_that_differ_are_not_used(monkeypatch, tmp_path):
    pytest.importorskip("numba")
    from eightfold.nn.kernels import check

    monkeypatch.setattr(check, "ALLOWED", 0.0)
    answer = ready.available(tmp_path)
    assert not answer.usable
    assert "is off by" in answer.reason


def test_kernels_that_cannot_be_compiled_are_not_used(monkeypatch, tmp_path):
    pytest.importorskip("numba")
    from eightfold.nn.kernels import check

    monkeypatch.setattr(check, "convolve", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no such instruction")))
    assert ready.available(tmp_path).reason == "the kernels cannot be compiled here: RuntimeError: no such instruction"


def test_a_cold_cache_starts_one_process_and_says_so(started, tmp_path):
    for _ in range(3):
        answer = ready.available_soon(tmp_path)
        assert not answer.usable
        assert "being compiled" in answer.reason
    assert started == [tmp_path]


def test_a_folder_that_cannot_be_written_is_a_reason(started, tmp_path):
    (tmp_path / "file").touch()
    answer = ready.available_soon(tmp_path / "file")
    assert (answer.usable, started) == (False, [])
    assert answer.reason.startswith("the fast kernels cannot be kept: cannot write")


def test_a_warm_cache_is_used(started, tmp_path):
    ready.write_record(tmp_path, reason="")
    assert ready.available_soon(tmp_path).usable
    assert not started


@pytest.mark.parametrize(
    ("features", "lanes"), [({"avx512f": True, "avx": True}, 16), ({"avx512f": False, "avx": True}, 8), ({"neon": True}, 4), ({}, 4)]
)
def test_vectors_are_as_wide_as_the_cpu_has_them(monkeypatch, features, lanes):
    monkeypatch.setattr(ready, "read_features", lambda: features)
    assert ready.find_lanes() == lanes


def test_a_check_that_failed_is_remembered(started, tmp_path):
    ready.write_record(tmp_path, reason="off by 3")
    assert ready.available_soon(tmp_path) == ready.Availability(usable=False, reason="off by 3")
    assert not started


def test_a_process_that_was_lost_is_not_started_again(started, tmp_path):
    """What kills the process that tries the kernels must not be tried in every run."""
    ready.write_record(tmp_path, since=time.time() - ready.PATIENCE - 1)
    answer = ready.available_soon(tmp_path)
    assert (answer.usable, started) == (False, [])
    assert str(ready.to_home(tmp_path)) in answer.reason


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"since": "yesterday"}', "\x00"])
def test_a_damaged_record_is_as_good_as_none(started, tmp_path, text):
    ready.write_record(tmp_path, reason="")
    (ready.to_home(tmp_path) / ready.RECORD).write_text(text)
    assert "being compiled" in ready.available_soon(tmp_path).reason
    assert len(started) == 1


def test_the_process_records_its_result(monkeypatch, tmp_path):
    pytest.importorskip("numba")
    monkeypatch.setattr(ready, "available", lambda folder: ready.Availability(usable=False, reason=f"asked for {folder.name}"))
    monkeypatch.setattr(ready.os, "nice", lambda by: by)
    ready.compile_and_record(tmp_path)
    assert json.loads((ready.to_home(tmp_path) / ready.RECORD).read_text()) == {"reason": f"asked for {tmp_path.name}"}


def test_the_process_checks_and_records(monkeypatch, tmp_path):
    """Started in earnest; a numba that cannot be loaded keeps it short."""
    pytest.importorskip("numba")
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("__version__ = 'none'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert ready.start_compiling(tmp_path / "cache").wait(timeout=60) == 0
    (record,) = (tmp_path / "cache").rglob(ready.RECORD)
    assert json.loads(record.read_text())["reason"].startswith("numba cannot be loaded: ModuleNotFoundError")


def test_compiled_code_goes_into_the_folder_and_the_setting_is_put_back(tmp_path):
    pytest.importorskip("numba")
    code = f"""
import pathlib
from numba.core import config
from eightfold.nn.kernels import ready
ready.load_kernels(pathlib.Path({str(tmp_path)!r}))
assert config.CACHE_DIR == "", config.CACHE_DIR
from eightfold.nn.kernels.compiled import to_edges
assert to_edges(0, 4, 0, 3, 1, 0) == (0, 3)
assert list(ready.to_home(pathlib.Path({str(tmp_path)!r})).rglob("*.nbi"))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_the_version_changes_with_the_sources(monkeypatch, tmp_path):
    pytest.importorskip("numba")
    before = ready.name_version.__wrapped__()
    monkeypatch.setattr(ready, "SOURCES", tmp_path)
    (tmp_path / "a.py").write_text("1")
    first = ready.name_version.__wrapped__()
    (tmp_path / "a.py").write_text("2")
    assert len({before, first, ready.name_version.__wrapped__()}) == 3
