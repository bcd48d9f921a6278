"""Three stages at once: the next item is read and the last one written while one is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")

AHEAD = 1  # read and waiting, beside the one that is worked on: pictures are large
BEHIND = 1  # being written


def overlap(items: Iterable[A], read: Callable[[A], B], work: Callable[[B], C], write: Callable[[C], D]) -> Generator[D, None, None]:
    """What `write` gives for each item, in order. `read` and `write` run in a thread each, `work` in the caller's.

    Besides the item in `work` there is at most one that is read, and one that waits for `write` or is in it. What a stage raises is
    raised here. However the iterator ends, nothing more is begun, what `work` had finished is written, and both threads end.
    """
    reader, writer = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(1, "write")
    todo = iter(items)
    reading: deque[Future[B]] = deque()
    writing: deque[Future[D]] = deque()

    def begin(count: int) -> None:
        reading.extend(reader.submit(read, item) for item in islice(todo, count))

    def work_on_next() -> C:
        """Its own frame, so that nobody holds what was read any longer than the work takes."""
        content = reading.popleft().result()
        begin(1)
        return work(content)

    try:
        begin(AHEAD)
        while reading:
            writing.append(writer.submit(write, work_on_next()))
            while len(writing) > BEHIND or (writing and writing[0].done()):
                yield writing.popleft().result()
        while writing:
            yield writing.popleft().result()
    finally:
        reader.shutdown(cancel_futures=True)
        writer.shutdown()
