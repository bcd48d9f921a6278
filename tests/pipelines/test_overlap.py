"""Three stages at once: what overlaps, what is bounded, and what is left when it ends early."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest

from eightfold.pipelines.overlap import overlap

PATIENCE = 20  # seconds after which a test fails instead of hanging


def list_threads() -> set[str]:
    return {thread.name.split("_")[0] for thread in threading.enumerate()} & {"read", "write"}


def same(item: Any) -> Any:
    return item


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_every_item_in_order(count: int) -> None:
    done = overlap(range(count), lambda item: item + 1, lambda item: item * 10, str)
    assert list(done) == [str((item + 1) * 10) for item in range(count)]
    assert not list_threads()


def test_the_next_is_read_and_the_last_written_during_the_work() -> None:
    """Every stage waits for one that only runs if they overlap."""
    read_last, working_on_last = threading.Event(), threading.Event()

    def read(item: int) -> int:
        if item == 1:
            read_last.set()
        return item

    def work(item: int) -> int:
        assert item == 1 or read_last.wait(PATIENCE)
        if item == 1:
            working_on_last.set()
        return item

    def write(item: int) -> int:
        assert item == 1 or working_on_last.wait(PATIENCE)
        return item

    assert list(overlap([0, 1], read, work, write)) == [0, 1]


def test_few_are_held_at_a_time() -> None:
    begun, worked, written = [], [], []
    held = []

    def read(item: int) -> int:
        begun.append(item)
        held.append(len(begun) - len(worked))
        return item

    def work(item: int) -> int:
        held.append(len(begun) - len(worked))
        worked.append(item)
        assert len(worked) - len(written) <= 3  # this one, one that waits and one that is being written
        return item

    assert list(overlap(range(30), read, work, lambda item: written.append(item) or item)) == list(range(30))
    assert max(held) <= 2


@pytest.mark.parametrize("stage", ["read", "work", "write"])
def test_what_a_stage_raises_is_raised_here(stage: str) -> None:
    def fail(item: int) -> int:
        if item == 2:
            raise ZeroDivisionError(stage)
        return item

    stages = {name: fail if name == stage else same for name in ("read", "work", "write")}
    done = []
    with pytest.raises(ZeroDivisionError, match=stage):
        done.extend(overlap(range(9), *stages.values()))
    assert not list_threads()


def test_closing_keeps_what_is_finished_and_begins_nothing() -> None:
    begun, written = [], []
    with closing(overlap(range(100), lambda item: begun.append(item) or item, same, lambda item: written.append(item) or item)) as done:
        assert next(done) == 0
    assert written == list(range(len(written))) and 1 <= len(written) <= 3
    assert len(begun) <= len(written) + 1
    assert not list_threads()


def test_an_interrupt_in_the_work_keeps_what_was_finished() -> None:
    written = []

    def work(item: int) -> int:
        if item == 3:
            raise KeyboardInterrupt
        return item

    with pytest.raises(KeyboardInterrupt):
        list(overlap(range(100), same, work, lambda item: written.append(item) or item))
    assert written == [0, 1, 2] and not list_threads()
