"""Plain threads that take blocks of work from one queue.

The kernels hold no lock of Python's, so that threads are enough; none of them calls torch, whose own thread count is therefore left alone.
A core that something else is using takes fewer blocks, and nothing waits for it but the last one.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

import numpy as np

T = TypeVar("T")
ALIGNMENT = 64  # bytes: a cache line, and the widest vector
LARGE = 1 << 20  # bytes from which a buffer is made of pages of its own


def build_buffer(size: int) -> np.ndarray:
    """`size` float32 numbers, not set to anything, that begin on a cache line. Large ones go back to the system when they are dropped."""
    if size * 4 >= LARGE:
        return np.frombuffer(map_memory(size * 4), np.float32)
    raw = np.empty(size * 4 + ALIGNMENT, np.uint8)
    begin = -raw.ctypes.data % ALIGNMENT
    return raw[begin : begin + size * 4].view(np.float32)


def map_memory(size: int) -> mmap.mmap:
    """Pages of our own: what an allocator has been given back it may keep."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    found = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared ones, the default, are slower to touch first
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            found.madvise(mmap.MADV_HUGEPAGE)
    return found


class Scratch:
    """A thread's own buffers by name, kept from one layer to the next: fresh memory is slow to touch for the first time."""

    def __init__(self) -> None:
        self.buffers: dict[str, np.ndarray] = {}

    def take(self, name: str, size: int) -> np.ndarray:
        """At least `size` float32 numbers, with whatever is in them."""
        found = self.buffers.get(name)
        if found is None or found.size < size:
            found = self.buffers[name] = build_buffer(size)
        return found


class Pool:
    """`threads` workers, the calling thread among them. One caller at a time; another one waits."""

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"a pool needs at least one thread, not {threads}")
        self.scratches = [Scratch() for _ in range(threads)]
        self.busy = threading.Lock()

    def release(self) -> None:
        """Drop the buffers of all threads, after the run that is under way."""
        with self.busy:
            for scratch in self.scratches:
                scratch.buffers.clear()

    def run(self, work: Callable[[Scratch, T], None], items: Iterable[T]) -> None:
        """work(scratch, item) for every item. The first exception stops the others after the item they are at, and is raised here."""
        queue, lock, failures = iter(items), threading.Lock(), []

        def labour(scratch: Scratch) -> None:
            try:
                for item in take_turns(queue, lock, failures):
                    work(scratch, item)
            except BaseException as failure:  # an interrupt too has to reach the caller, and stop the rest
                failures.append(failure)

        with self.busy:
            others = [threading.Thread(target=labour, args=(scratch,), daemon=True) for scratch in self.scratches[1:]]
            try:
                for thread in others:
                    thread.start()
                labour(self.scratches[0])
            except BaseException as failure:  # an interrupt between two lines above
                failures.append(failure)
            wait_for(others, failures)
        if failures:
            raise failures[0]


def wait_for(threads: list[threading.Thread], failures: list[BaseException]) -> None:
    """Until all have ended, whatever happens: an interrupt stops them at their next item, and no buffer is taken away under their hands."""
    while True:
        try:
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            return
        except BaseException as failure:
            failures.append(failure)


def take_turns(queue: Iterator[T], lock: threading.Lock, failures: list[BaseException]) -> Iterator[T]:
    """The items that fall to this thread, until none is left or a thread has failed."""
    while not failures:
        with lock:
            try:
                item = next(queue)
            except StopIteration:
                return
        yield item
