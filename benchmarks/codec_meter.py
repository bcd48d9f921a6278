"""What a run costs a process and what else the machine did meanwhile, read from /proc; where there is none, memory and load are None."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

STATM, STATUS, CLEAR, STAT = (Path(path) for path in ("/proc/self/statm", "/proc/self/status", "/proc/self/clear_refs", "/proc/stat"))
EVERY = 0.01  # seconds between two looks at the memory
BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, interrupts twice, and what the host took away; not idle and not waiting for a disk


def read_resident() -> int | None:
    """Bytes of this process that are in memory now."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if STATM.exists() else None


def read_busy() -> float | None:
    """Seconds that the CPUs this process may use have been busy since the machine started; ticks of 10 ms each."""
    if not STAT.exists():
        return None
    names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = [line.split() for line in STAT.read_text().splitlines()]
    return sum(int(line[1 + field]) for line in lines if line[0] in names for field in BUSY) / os.sysconf("SC_CLK_TCK")


class Peak:
    """The most memory this process has held since `start`: the kernel's own mark where it may be reset, otherwise seen every 10 ms."""

    def __init__(self) -> None:
        self.largest, self.stop, self.thread = 0, threading.Event(), None

    def start(self) -> None:
        try:
            CLEAR.write_text("5")
        except OSError:
            self.thread = threading.Thread(target=self.look, daemon=True)
            self.thread.start()

    def look(self) -> None:
        while not self.stop.wait(EVERY):
            self.largest = max(self.largest, read_resident() or 0)

    def end(self) -> int | None:
        """Bytes, None where the machine does not tell."""
        if self.thread is not None:
            self.stop.set()
            self.thread.join()
            return max(self.largest, read_resident() or 0) or None
        mark = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(mark.split()[1])


class Stopwatch:
    """Seconds and CPU seconds of this process inside of one function, also where several threads are in it at once."""

    def __init__(self) -> None:
        self.calls = self.inside = 0
        self.wall = self.cpu = self.since = self.since_cpu = 0.0
        self.lock = threading.Lock()

    def reset(self) -> None:
        self.calls, self.wall, self.cpu = 0, 0.0, 0.0

    @contextmanager
    def count(self) -> Iterator[None]:
        with self.lock:
            if not self.inside:
                self.since, self.since_cpu = time.perf_counter(), time.process_time()
            self.inside, self.calls = self.inside + 1, self.calls + 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.wall += time.perf_counter() - self.since
                    self.cpu += time.process_time() - self.since_cpu


def watch_attention() -> Stopwatch:
    """Times torch's scaled_dot_product_attention, for all who look it up when they call it."""
    from torch.nn import functional

    watch, attend = Stopwatch(), functional.scaled_dot_product_attention

    def timed(run: Callable[..., object], *arguments: object, **options: object) -> object:
        with watch.count():
            return run(*arguments, **options)

    functional.scaled_dot_product_attention = partial(timed, attend)
    return watch


class Gauge:
    """What this process takes between `start` and `end`. `idle` is the memory that the rise is counted from.

    `foreign` are the CPU seconds of all others on these CPUs meanwhile.
    """

    def __init__(self, idle: int | None, attention: Stopwatch | None = None) -> None:
        self.idle, self.attention = idle, attention
        self.figures: dict[str, float | None] = {}

    def note(self, what: str) -> None:
        """Starts at "begin", and at "end" keeps the figures: for what can only be told from inside of a run."""
        if what == "begin":
            self.start()
        else:
            self.figures = self.end()

    def start(self) -> None:
        self.peak = Peak()
        if self.attention is not None:
            self.attention.reset()
        self.peak.start()
        self.busy, self.wall, self.cpu = read_busy(), time.perf_counter(), time.process_time()

    def end(self) -> dict[str, float | None]:
        wall, cpu, busy = time.perf_counter() - self.wall, time.process_time() - self.cpu, read_busy()
        most = self.peak.end()
        figures: dict[str, float | None] = {"wall": wall, "cpu": cpu, "peak": most}
        figures["rise"] = None if most is None or self.idle is None else most - self.idle
        figures["foreign"] = None if self.busy is None or busy is None else max(0.0, busy - self.busy - cpu)
        if self.attention is not None and self.attention.calls:
            figures |= {"attention wall": self.attention.wall, "attention cpu": self.attention.cpu}
        return figures


def measure(run: Callable[[], object], *, idle: int | None, attention: Stopwatch | None = None) -> tuple[object, dict[str, float | None]]:
    """What `run` gives and what it cost."""
    gauge = Gauge(idle, attention)
    gauge.start()
    result = run()
    return result, gauge.end()
