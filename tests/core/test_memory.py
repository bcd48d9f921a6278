"""Amounts as people write them, and what the system says of memory."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightfold.core import memory
from eightfold.core.errors import RequestError
from eightfold.core.memory import measure_free, measure_resident, read_amount, to_amount

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("4GB", 4 * 10**9),
        ("4gb", 4 * 10**9),
        ("4G", 4 * 10**9),
        ("1.5 GiB", 3 << 29),
        (" 800 MB ", 800 * 10**6),
        ("2mib", 2 << 20),
        ("0.25TB", 25 * 10**10),
        ("1TiB", 1 << 40),
        ("12kB", 12_000),
        ("3Ki", 3 << 10),
        ("4096", 4096),
        ("4096 b", 4096),
    ],
)
def test_amounts(text: str, amount: int) -> None:
    assert read_amount(text) == amount


@pytest.mark.parametrize(
    "text", ["", "GB", "four GB", "-4GB", "0", "0GB", "0.0 MB", "4 PB", "4,5GB", "4 GB RAM", "1e9", "inf", "nan", "4..5GB"]
)
def test_no_amounts(text: str) -> None:
    with pytest.raises(RequestError, match="no amount of memory") as raised:
        read_amount(text)
    assert repr(text) in str(raised.value) and "4GB" in raised.value.hint


@given(amount=st.integers(1, 10**15))
def test_what_is_said_can_be_read(amount: int) -> None:
    """With three digits, so within half a percent; bytes to the last."""
    text = to_amount(amount)
    if "e+" not in text:  # a million gigabytes and more
        said = read_amount(text.replace("bytes", "")) if amount < 1000 else read_amount(text)
        assert said == amount if amount < 1000 else abs(said - amount) <= 0.005 * amount + 1
        assert read_amount(to_amount(amount).replace(" ", "").replace("bytes", "")) == said


@pytest.mark.parametrize(("amount", "text"), [(999, "999 bytes"), (1000, "1 kB"), (4.2e9, "4.2 GB"), (123456789, "123 MB"), (0, "0 bytes")])
def test_people_s_words(amount: float, text: str) -> None:
    assert to_amount(amount) == text


@on_linux
def test_resident_memory_follows() -> None:
    before = measure_resident()
    assert before > 1 << 20
    taken = mmap.mmap(-1, 64 << 20)
    assert measure_resident() - before < 32 << 20  # asked for, and not touched
    for at in range(0, len(taken), mmap.PAGESIZE):
        taken[at] = 1
    full = measure_resident()
    assert full - before > 56 << 20
    taken.close()
    assert full - measure_resident() > 56 << 20


def test_free_memory_is_some_of_all() -> None:
    free = measure_free()
    assert free is not None and free > 0
    if hasattr(os, "sysconf"):
        assert free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def write_group(folder: Path, limit: str, use: int, statistics: str) -> tuple[str, str]:
    folder.mkdir()
    for name, text in {"memory.max": limit, "memory.current": str(use), "memory.stat": statistics}.items():
        (folder / name).write_text(f"{text}\n")
    return str(folder / "memory.max"), str(folder / "memory.current")


@pytest.mark.parametrize(
    ("limit", "use", "statistics", "free"),
    [
        ("5000000", 2_000_000, "anon 900\nfile 1000000\nkernel 7", 4_000_000),  # its page cache can be taken back
        ("5000000", 2_000_000, "rss 3\ncache 500000", 3_500_000),
        ("5000000", 6_000_000, "anon 1", 0),
        ("max", 2_000_000, "file 1", None),
    ],
)
def test_a_container_s_limit(
    limit: str, use: int, statistics: str, free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = measure_free()
    assert usual is not None
    monkeypatch.setattr(memory, "CGROUPS", (write_group(tmp_path / "group", limit, use, statistics),))
    assert memory.read_group() == free
    assert measure_free() == free if free is not None else measure_free() == memory.read_available()


def test_the_first_group_that_says_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = (str(tmp_path / "gone"), str(tmp_path / "gone"))
    unlimited = write_group(tmp_path / "one", "max", 5, "file 1")
    limited = write_group(tmp_path / "two", "1000", 5, "file 1")
    monkeypatch.setattr(memory, "CGROUPS", (gone, unlimited, limited))
    assert memory.read_group() == 996
    monkeypatch.setattr(memory, "CGROUPS", (gone,))
    assert memory.read_group() is None


def test_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "read_available", lambda: None)
    monkeypatch.setattr(memory, "read_group", lambda: None)
    assert measure_free() is None
    monkeypatch.setattr(memory, "read_group", lambda: 7)
    assert measure_free() == 7
