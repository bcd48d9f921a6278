"""Plans keep their bound, cost more the less they may take, and say truly what they will take."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eightfold.autoencoders.build import build_autoencoder
from eightfold.codec.explain import SLOW
from eightfold.codec.lower import lower
from eightfold.codec.plan import PATIENCE, Choice, Plan, Planner
from eightfold.codec.schedule import WHOLE, Frame, Place
from eightfold.core.errors import RequestError
from eightfold.core.memory import measure_resident, read_amount
from toyruns import CASES, CONFIGS, Task, build_graph, build_planner, draw_choice, run_plan
from toyspaces import FOUR
from weights import draw

SHARES = (0.9, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02)
PLANNERS: dict[tuple[str, Task], Planner] = {}
BASE = 10**8
ROOM = 8 << 20
M_MMAP_THRESHOLD = -3  # of malloc.h


def get_planner(name: str, task: Task) -> Planner:
    """Of a picture of 48 x 32 cells; nothing is run."""
    if (name, task) not in PLANNERS:
        cells = 16 if CONFIGS[name].downscale > 8 else 48
        downscale = CONFIGS[name].downscale if task == "encode" else 1
        size = {"height": cells * downscale, "width": cells * downscale * 2 // 3}
        frame = Frame(graph=build_graph(name, task), dtype=torch.float32, **size)
        PLANNERS[name, task] = build_planner(frame, base=BASE)
    return PLANNERS[name, task]


def plan_within(planner: Planner, budget: int) -> Plan | None:
    """None where that is refused; then by naming an amount that works, and not much less would."""
    try:
        return planner.plan(budget)
    except RequestError as refusal:
        assert "--memory allows" in str(refusal)
        found = re.search(r"--memory (\S+) is the smallest that works", refusal.hint)
        assert found is not None
        smallest = read_amount(found[1])
        assert smallest > budget and planner.plan(smallest).peak_bytes <= smallest
        with pytest.raises(RequestError):
            planner.plan(BASE + int((smallest - BASE) * 0.5 - 0.03 * BASE))
        return None


@pytest.mark.parametrize(("name", "task"), CASES)
def test_bounds_are_kept(name: str, task: Task) -> None:
    planner = get_planner(name, task)
    fastest = planner.plan(None)
    assert set(fastest.places.values()) == {Place.MEMORY} and fastest.choice.strip == WHOLE and fastest.spilled == 0
    assert planner.plan(fastest.peak_bytes).total_seconds == fastest.total_seconds
    best = fastest.total_seconds
    plans = [plan for share in SHARES if (plan := plan_within(planner, BASE + int(fastest.rise_bytes * share))) is not None]
    for share, plan in zip(SHARES, plans, strict=False):
        assert plan.peak_bytes <= BASE + fastest.rise_bytes * share
        assert all(plan.places[number] is Place.MEMORY for number in planner.frame.whole)
        assert plan.total_seconds > 0.75 * best  # what takes less memory is no faster, but for the greed of the search
        best = max(best, plan.total_seconds)
    assert len(plans) >= 2
    assert plan_within(planner, BASE + 1000) is None


@pytest.mark.parametrize(("name", "task"), CASES)
def test_files_are_the_last_resort(name: str, task: Task) -> None:
    planner = get_planner(name, task)
    fastest = planner.plan(None)
    for share in SHARES:
        budget = BASE + int(fastest.rise_bytes * share)
        without = planner.shrink(fastest, budget, (Place.PASSING,))
        if without.peak_bytes <= budget:
            plan = planner.plan(budget)
            if without.total_seconds <= PATIENCE * fastest.total_seconds:
                assert Place.FILE not in plan.places.values() and plan.spilled == 0
            assert plan.total_seconds <= without.total_seconds * 1.0001


@pytest.mark.parametrize("seed", range(8))
def test_what_a_plan_says_adds_up(seed: int) -> None:
    planner = get_planner("pocket", "decode")
    plan = planner.measure(draw_choice(planner.frame, seed))
    assert plan.peak_bytes == BASE + max(plan.bytes) and plan.total_seconds == pytest.approx(sum(plan.seconds))
    assert plan.find_share(0, 0) == 0 and plan.find_share(len(plan.passes) - 1, 1) == pytest.approx(1)
    files = {number for number, place in plan.places.items() if place is Place.FILE}
    assert (plan.spilled > 0) == bool(files)
    assert plan.spilled <= sum(planner.frame.sizes[number].bytes for number in files)
    assert all(size > planner.frame.sizes[0].bytes for size in plan.bytes) and all(seconds > 0 for seconds in plan.seconds)


def test_more_memory_is_not_slower_by_much() -> None:
    """From the smallest bound up, in steps of a tenth."""
    planner = get_planner("flux2", "decode")
    budget, times = planner.plan(None).peak_bytes, []
    while (plan := plan_within(planner, budget)) is not None:
        times.append(plan.total_seconds)
        budget = BASE + int((budget - BASE) * 0.9)
    assert len(times) > 8 and times[-1] > times[0] * 1.2
    for number, seconds in enumerate(times):
        assert seconds * 1.5 >= max(times[:number], default=0)  # the search is greedy
    assert times[-1] < 40 * times[0] and SLOW > PATIENCE


def build_large(task: Task) -> Planner:
    config = replace(FOUR, width=32, groups=8)
    torch.manual_seed(0)
    network = build_autoencoder(config).eval()
    stages = network.decoder_stages() if task == "decode" else network.encoder_stages()  # type: ignore[union-attr]
    height, width = (64, 48) if task == "decode" else (512, 384)
    frame = Frame(graph=lower(stages, 4 if task == "decode" else 3), height=height, width=width, dtype=torch.float32)
    return build_planner(frame)


class Sampler(threading.Thread):
    """The largest resident memory that it sees."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.done = 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.002):
            self.peak = max(self.peak, measure_resident())


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("task", ["decode", "encode"])
def test_no_more_is_taken_than_was_said(task: Task, tmp_path: Path) -> None:
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)  # what malloc hoards for later depends on all that ran before
    planner = build_large(task)
    x = draw(1, planner.frame.graph.nodes[0].channels, planner.frame.height, planner.frame.width)
    fastest = planner.plan(None)
    run_plan(planner, planner.plan(int(fastest.peak_bytes * 0.7)), x, tmp_path)  # what torch keeps for itself
    plans = [fastest, planner.plan(int(fastest.peak_bytes * 0.75))]
    files = {number: Place.MEMORY if number in planner.frame.whole else Place.FILE for number in fastest.places}
    plans.append(planner.measure(Choice(places=files, strip=32)))
    assert fastest.rise_bytes > 60 << 20
    for plan in plans:
        gc.collect()
        base, sampler = measure_resident(), Sampler()
        sampler.start()
        run_plan(planner, plan, x, tmp_path)
        sampler.done.set()
        sampler.join()
        assert sampler.peak - base < plan.rise_bytes * 1.1 + ROOM
        assert plan is not fastest or sampler.peak - base > plan.rise_bytes * 0.4  # else the sampler sees nothing
