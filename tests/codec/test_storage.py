"""Rows come back as they were put in, memory goes back when it is told to, and nothing is left on the disk."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eightfold.codec.storage import PAGE, Memory, Size, Spill, Window
from eightfold.core.errors import OutputError
from eightfold.core.memory import measure_resident
from toyruns import count_open
from weights import draw

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def build_size(height: int, width: int = 3, channels: int = 2, dtype: torch.dtype = torch.float32) -> Size:
    return Size(height=height, width=width, channels=channels, dtype=dtype)


def number_rows(begin: int, end: int, size: Size) -> torch.Tensor:
    """Rows that are full of their number."""
    return torch.arange(begin, end, dtype=size.dtype)[:, None, None].expand(-1, size.width, size.channels)


@given(steps=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=20))
def test_a_window_holds_what_it_was_told_to(steps: list[tuple[int, int]]) -> None:
    """Steps: how many rows more are made, and how many of those before are kept."""
    size, model, high = build_size(10_000), list[int](), 0
    moves = []
    for more, kept in steps:
        low = max(high - kept, moves[-1][2] if moves else 0)
        moves.append((high, high + more, low))
        high += more
    capacity = max([end - low for _, end, low in moves], default=0)
    window = Window(size=size, capacity=capacity, device=CPU)
    for begin, end, low in moves:
        fresh = window.advance(low, end)
        assert fresh.shape == (end - begin, 3, 2)
        fresh.copy_(number_rows(begin, end, size))
        model = [row for row in [*model, *range(begin, end)] if row >= low]
        assert (window.low, window.high) == (low, end)
        assert window.rows[:, 0, 0].tolist() == model
        assert torch.equal(window.rows, number_rows(low, end, size))


def test_a_window_does_not_go_back() -> None:
    window = Window(size=build_size(50), capacity=10, device=CPU)
    window.advance(0, 8).copy_(number_rows(0, 8, window.size))
    window.advance(6, 12).copy_(number_rows(8, 12, window.size))
    window.advance(2, 13).copy_(number_rows(12, 13, window.size))
    assert window.low == 6 and torch.equal(window.rows, number_rows(6, 13, window.size))
    window.advance(99, 15).copy_(number_rows(13, 15, window.size))  # nor does it skip what is still to be made
    assert window.low == 13 and torch.equal(window.rows, number_rows(13, 15, window.size))


@on_linux
@pytest.mark.skipif(not hasattr(__import__("mmap"), "MADV_DONTNEED"), reason="needs madvise")
def test_memory_goes_back_row_by_row() -> None:
    size = build_size(64, width=512, channels=512)  # 1 MB a row
    memory = Memory(size, CPU)
    before = measure_resident()
    memory.rows.copy_(torch.arange(64.0)[:, None, None].expand(64, 512, 512))
    full = measure_resident()
    assert full - before > 50 << 20
    for upto, given_back in ((20, 15 << 20), (20, 15 << 20), (10, 15 << 20), (50, 42 << 20)):
        memory.release(upto)
        assert full - measure_resident() > given_back
    assert torch.equal(memory.rows[50:, 0, 0], torch.arange(50.0, 64.0)) and torch.equal(memory.rows[50:, -1, -1], torch.arange(50.0, 64.0))
    del memory
    assert full - measure_resident() > 55 << 20


@given(height=st.integers(1, 40), width=st.integers(1, 200), steps=st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_what_is_not_released_stays(height: int, width: int, steps: list[int]) -> None:
    memory = Memory(build_size(height, width, 7), CPU)
    memory.rows.copy_(number_rows(0, height, memory.size))
    for upto in (min(step, height) for step in steps):
        memory.release(upto)
    left = min(max(steps), height)
    assert torch.equal(memory.rows[left:], number_rows(left, height, memory.size))
    assert memory.released <= left * memory.size.row_bytes and memory.released % PAGE == 0


def test_memory_of_nothing() -> None:
    assert Memory(build_size(0), CPU).rows.shape == (0, 3, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_gives_rows_back(dtype: torch.dtype, tmp_path: Path) -> None:
    size, folder = build_size(30, 11, 5, dtype), tmp_path / "not" / "there"
    rows = draw(30, 11, 5).to(dtype)
    spill = Spill(size, folder)
    for begin, end in ((0, 7), (19, 30), (7, 19)):
        spill.write(rows[begin:end].contiguous(), begin)
        assert list(folder.iterdir()) == []  # it has no name that could be left behind
    into = torch.empty(13, 11, 5, dtype=dtype)
    spill.read(into, 12)
    assert torch.equal(into, rows[12:25])
    spill.write(rows[:3].contiguous(), 20)
    spill.read(into, 12)
    assert torch.equal(into[8:11], rows[:3]) and torch.equal(into[:8], rows[12:20])
    spill.close()
    assert list(folder.iterdir()) == []


@on_linux
def test_a_file_is_closed(tmp_path: Path) -> None:
    spill = Spill(build_size(4), tmp_path)
    assert count_open(tmp_path) == 1
    spill.close()
    assert count_open(tmp_path) == 0


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OutputError, match=r"cannot keep 0\.00 GB .*No space left") as raised:
        Spill(build_size(4), tmp_path)
    assert str(tmp_path) in str(raised.value) and "EIGHTFOLD_CACHE" in raised.value.hint and "--memory" in raised.value.hint


def test_a_disk_that_fills_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spill = Spill(build_size(4), tmp_path)
    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(OutputError, match="No space left") as raised:
        spill.write(torch.zeros(1, 3, 2), 0)
    assert raised.value.hint
    spill.close()


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    spill = Spill(build_size(4), tmp_path)
    spill.file.truncate(10)
    with pytest.raises(OutputError, match="cut off"):
        spill.read(torch.empty(4, 3, 2), 0)
    spill.close()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="temporary file") as raised:
        Spill(build_size(4), tmp_path / "file" / "spill")
    assert raised.value.hint


@pytest.mark.parametrize("most", [1, 5, 1000])
def test_a_disk_that_takes_and_gives_a_little_at_a_time(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: pwrite(file, data[:most], at))
    monkeypatch.setattr(os, "preadv", lambda file, parts, at: preadv(file, [parts[0][:most]], at))
    rows, spill = draw(6, 3, 2), Spill(build_size(6), tmp_path)
    spill.write(rows, 0)
    into = torch.empty(4, 3, 2)
    spill.read(into, 1)
    assert torch.equal(into, rows[1:5])
    spill.close()
