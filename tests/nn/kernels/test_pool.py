"""The threads: every item once, failures come out, torch's own threads left alone."""

from __future__ import annotations

import mmap
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from eightfold.nn.kernels.pool import ALIGNMENT, LARGE, Pool, Scratch, build_buffer


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_item_once(threads):
    done = []
    Pool(threads).run(lambda _scratch, item: done.append(item), range(200))
    assert sorted(done) == [*range(200)]


def test_threads_work_at_the_same_time():
    together = threading.Barrier(3, timeout=20)
    names = set()

    def work(_scratch, _item):
        together.wait()
        names.add(threading.get_ident())

    Pool(3).run(work, range(3))
    assert len(names) == 3
    assert threading.get_ident() in names


@pytest.mark.parametrize("failure", [ValueError("this one"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_comes_out_and_stops_the_rest(failure, threads):
    done = []

    def work(_scratch, item):
        if item == 3:
            raise failure
        done.append(item)

    before = threading.active_count()
    with pytest.raises(type(failure)) as caught:
        Pool(threads).run(work, iter(range(100_000)))
    assert caught.value is failure
    assert 3 not in done
    assert len(done) < 99_000
    assert threading.active_count() == before


def test_the_failure_of_a_worker_that_is_not_the_caller_comes_out():
    def work(_scratch, _item):
        if threading.current_thread() is not threading.main_thread():
            raise LookupError("in a worker")
        busy.wait(0.01)

    busy = threading.Event()
    with pytest.raises(LookupError, match="in a worker"):
        Pool(2).run(work, iter(int, 1))


@pytest.fixture
def interruptible():
    """A process in the background of a shell may ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_waiting_comes_out_after_the_workers_have_ended():
    begun, ended = threading.Event(), []

    def work(_scratch, _item):
        if threading.current_thread() is threading.main_thread():
            begun.wait(20)  # then nothing is left to do, and the caller waits for the other
        else:
            begun.set()
            threading.Event().wait(0.2)
            signal.raise_signal(signal.SIGINT)
            threading.Event().wait(0.2)
            ended.append(True)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        Pool(2).run(work, range(2))
    assert ended
    assert threading.active_count() == before


def test_a_second_caller_waits():
    pool, order = Pool(1), []
    begun = threading.Event()

    def slow(_scratch, _item):
        begun.set()
        threading.Event().wait(0.2)
        order.append("first")

    first = threading.Thread(target=pool.run, args=(slow, [0]))
    first.start()
    assert begun.wait(20)
    pool.run(lambda _scratch, _item: order.append("second"), [0])
    first.join()
    assert order == ["first", "second"]


def test_torch_keeps_its_threads():
    before = torch.get_num_threads()
    seen = []
    torch.set_num_threads(2)
    try:
        Pool(3).run(lambda _scratch, _item: seen.append(1), range(50))
        torch.randn(64, 64) @ torch.randn(64, 64)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_pool_needs_a_thread():
    with pytest.raises(ValueError, match="at least one"):
        Pool(0)


@pytest.mark.parametrize("size", [1, 17, 100_000, LARGE // 4, LARGE])
def test_buffers_begin_on_a_cache_line(size):
    buffer = build_buffer(size)
    assert (buffer.ctypes.data % ALIGNMENT, buffer.size, buffer.dtype) == (0, size, np.float32)


def test_scratch_is_kept_and_grows():
    scratch = Scratch()
    first = scratch.take("a", 10)
    assert scratch.take("a", 5) is first
    assert scratch.take("b", 5) is not first
    assert scratch.take("a", 11).size >= 11


def test_scratch_can_be_given_back():
    pool = Pool(2)
    for scratch in pool.scratches:
        scratch.take("a", 10)
    pool.release()
    assert not any(scratch.buffers for scratch in pool.scratches)
    pool.run(lambda scratch, _item: scratch.take("a", 10), range(4))
    assert any(scratch.buffers for scratch in pool.scratches)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how much memory is resident is read from /proc")
def test_a_large_buffer_goes_back_to_the_system_when_it_is_dropped():
    def read_resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    size = 1 << 24
    before = read_resident()
    buffer = build_buffer(size)
    buffer[:] = 1
    assert read_resident() - before > 3 * size
    part = buffer[5:9]
    del buffer
    assert part.tolist() == [1] * 4, "a view keeps it"
    del part
    assert read_resident() - before < size
