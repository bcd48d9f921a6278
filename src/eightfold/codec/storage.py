"""Where the rows of a feature map are kept: in memory that goes back to the system row by row, in a file, in a window that moves down."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ..core.errors import OutputError
from ..nn.kernels.pool import map_memory
from ..nn.rows import Size

PAGE = mmap.PAGESIZE

B = TypeVar("B")
LOOSE = 2  # times the bytes that are needed that a buffer taken again may have


class Arena(Generic[B]):
    """Buffers that are used again: memory that was touched before is faster than new memory.

    A plan counts with one that makes nothing, a run has one of real memory; so both come to the same sum.
    """

    def __init__(self, make: Callable[[int], B]) -> None:
        self.make = make
        self.free: list[tuple[int, B]] = []
        self.total = 0

    def take(self, size: int) -> tuple[int, B]:
        """The smallest buffer that is free and not much too large, or a new one, with its bytes."""
        fitting = [index for index, (bytes, _) in enumerate(self.free) if size <= bytes <= LOOSE * size]
        if fitting:
            return self.free.pop(min(fitting, key=lambda index: self.free[index][0]))
        self.total += size
        return size, self.make(size)

    def give(self, buffer: tuple[int, B]) -> None:
        """It may be taken again."""
        self.free.append(buffer)

    def drop(self, keep: int) -> None:
        """Let go of free buffers, the largest first, until all together have no more than `keep` bytes."""
        self.free.sort(key=lambda one: one[0])
        while self.free and self.total > keep:
            bytes, _ = self.free.pop()
            self.total -= bytes

    def count(self) -> Arena[None]:
        """One that makes nothing and is in the same state."""
        other = Arena[None](lambda _: None)
        other.free, other.total = [(bytes, None) for bytes, _ in self.free], self.total
        return other


def allocate(size: Size, device: torch.device) -> Tensor:
    """An empty tensor [height, width, channels]; on a CPU with memory of its own, which goes back to the system when it is gone."""
    shape = (size.height, size.width, size.channels)
    if device.type != "cpu" or size.bytes == 0:
        return torch.empty(shape, dtype=size.dtype, device=device)
    return torch.frombuffer(map_memory(size.bytes), dtype=size.dtype).view(shape)


class Memory:
    """A whole feature map in memory; on a CPU out of an `arena`, if there is one."""

    def __init__(self, size: Size, device: torch.device, arena: Arena[mmap.mmap] | None = None) -> None:
        self.size = size
        self.released = 0
        self.buffer: tuple[int, mmap.mmap] | None = None
        if device.type != "cpu" or size.bytes == 0:
            self.rows = allocate(size, device)
            return
        self.buffer = (size.bytes, map_memory(size.bytes)) if arena is None else arena.take(size.bytes)
        numbers = torch.frombuffer(self.buffer[1], dtype=size.dtype, count=size.bytes // size.dtype.itemsize)
        self.rows = numbers.view(size.height, size.width, size.channels)

    def release(self, upto: int) -> None:
        """Give back the rows above `upto`, which nobody will read again."""
        end = upto * self.size.row_bytes // PAGE * PAGE
        if self.buffer is not None and end > self.released and hasattr(mmap, "MADV_DONTNEED"):
            self.buffer[1].madvise(mmap.MADV_DONTNEED, self.released, end - self.released)
            self.released = end


class Spill:
    """A whole feature map in a temporary file without a name: it is gone when this process ends, however it ends.

    Rows are read and written rather than mapped, since the pages of a mapped file would count as memory of ours.
    """

    def __init__(self, size: Size, folder: Path) -> None:
        self.size, self.folder = size, folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self.to_error(error, folder) from error
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.file.fileno(), 0, size.bytes)  # a full disk is found before the work, not after it
        except OSError as error:
            self.close()  # the error would keep it open, and with it what room there was
            raise self.to_error(error, folder) from error

    def to_error(self, error: OSError, folder: Path) -> OutputError:
        what = f"cannot keep {self.size.bytes / 1e9:.2f} GB in a temporary file in {folder}: {error.strerror or error}"
        return OutputError(what, hint="make room there, name another folder with EIGHTFOLD_CACHE, or give more --memory")

    def write(self, rows: Tensor, begin: int) -> None:
        data, at = to_bytes(rows), begin * self.size.row_bytes
        try:
            while data:
                count = os.pwrite(self.file.fileno(), data, at)
                data, at = data[count:], at + count
        except OSError as error:
            raise self.to_error(error, self.folder) from error

    def read(self, into: Tensor, begin: int) -> None:
        data, at = to_bytes(into), begin * self.size.row_bytes
        while data:
            count = os.preadv(self.file.fileno(), [data], at)
            if count == 0:
                raise OutputError(f"a temporary file in {self.folder} was cut off", hint="make room there, or give more --memory")
            data, at = data[count:], at + count

    def close(self) -> None:
        self.file.close()


def to_bytes(rows: Tensor) -> memoryview:
    """The bytes of contiguous rows on the CPU; no copy."""
    return rows.view(torch.uint8).numpy().reshape(-1).data


@dataclass(kw_only=True)
class Window:
    """Some rows of a feature map, moving down: `buffer` holds those from `low` up to `high`."""

    size: Size
    capacity: int
    device: torch.device
    low: int = 0
    high: int = 0
    buffer: Tensor = field(init=False)

    def __post_init__(self) -> None:
        rows = Size(height=self.capacity, width=self.size.width, channels=self.size.channels, dtype=self.size.dtype)
        self.buffer = allocate(rows, self.device)

    @property
    def rows(self) -> Tensor:
        return self.buffer[: self.high - self.low]

    def advance(self, keep: int, end: int) -> Tensor:
        """Drop the rows above `keep` and make room up to row `end`; the new rows, to be written."""
        keep = max(self.low, min(keep, self.high))
        if keep > self.low:
            move_up(self.buffer, keep - self.low, self.high - keep)
            self.low = keep
        fresh = self.buffer[self.high - self.low : end - self.low]
        self.high = end
        return fresh


def move_up(buffer: Tensor, distance: int, count: int) -> None:
    """Rows from `distance` on to the front, in steps that do not overlap."""
    for begin in range(0, count, distance):
        rows = min(distance, count - begin)
        buffer[begin : begin + rows].copy_(buffer[begin + distance : begin + distance + rows])
