"""Passes read what is there: a run in which every row is nothing but its own name."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.codec.plan import Choice, Plan
from eightfold.codec.schedule import WHOLE, Cursor, Frame, Pass, Piece, Place, find_last_reads, list_passes
from eightfold.nn.graph import Convolve, find_rows
from toyruns import CASES, CONFIGS, Task, build_graph, build_planner, draw_choice

Row = tuple[int, int]  # node, number
cases = st.sampled_from(CASES)
heights = st.integers(1, 9)
seeds = st.integers(0, 10**6)


def build(name: str, task: Task, cells: int) -> Frame:
    downscale = CONFIGS[name].downscale if task == "encode" else 1
    return Frame(graph=build_graph(name, task), height=cells * downscale, width=downscale, dtype=torch.float32)


@dataclass
class Ledger:
    """What is in every store and window, as `strips.Run` moves it."""

    frame: Frame
    plan: Plan
    stores: dict[int, list[Row | None]] = field(default_factory=dict)
    measured: set[int] = field(default_factory=lambda: {0})  # nodes that were made from their first row to their last in one pass

    def run(self) -> None:
        self.stores[0] = [(0, row) for row in range(self.height(0))]
        for index, one in enumerate(self.plan.passes):
            self.run_pass(one, index)
            for number in self.plan.ending[index]:
                del self.stores[number]
        last = len(self.frame.graph.nodes) - 1
        assert self.stores == {last: [(last, row) for row in range(self.height(last))]}

    def height(self, number: int) -> int:
        return self.frame.sizes[number].height

    def run_pass(self, one: Pass, index: int) -> None:
        cursor = Cursor(self.frame, one.target, one.strip, frozenset(one.nodes) - {one.target}, one.loaded)
        windows = dict.fromkeys(one.nodes, (0, 0))
        made = dict.fromkeys({*one.nodes, one.target}, 0)
        is_stored = self.plan.places[one.target] is not Place.PASSING
        if is_stored:
            replaced = self.plan.replaced.get(index)
            self.stores[one.target] = [None] * self.height(one.target) if replaced is None else self.stores[replaced]
        for piece in cursor.cut():
            number = piece.node
            assert piece.begin == made[number] < piece.end <= self.height(number)
            made[number] = piece.end
            if number in windows:
                windows[number] = self.advance(windows[number], piece, one.nodes[number])
            self.read(piece, one, windows)
            if number == one.target and is_stored:
                self.stores[number][piece.begin : piece.end] = [(number, row) for row in range(piece.begin, piece.end)]
            if number == one.target:
                self.release(index, cursor)
        assert made[one.target] == self.height(one.target)
        self.measured |= {number for number in one.computed if made[number] == self.height(number)}

    def advance(self, window: tuple[int, int], piece: Piece, capacity: int) -> tuple[int, int]:
        low, high = window
        assert piece.begin == high
        low = max(low, min(piece.keep, high))
        assert piece.end - low <= capacity
        return low, piece.end

    def read(self, piece: Piece, one: Pass, windows: dict[int, tuple[int, int]]) -> None:
        if piece.node in one.loaded:
            self.expect(piece.node, piece.begin, piece.end)
            return
        node = self.frame.node(piece.node)
        assert node.group is None or node.inputs[0] in self.measured
        for slot, source in enumerate(node.inputs):
            begin, end = find_rows(self.frame.graph, piece.node, slot, (piece.begin, piece.end), self.height(source))
            assert begin < end
            if source in windows:
                low, high = windows[source]
                assert low <= begin < end <= high
            else:
                assert source in one.kept and self.plan.places[source] is Place.MEMORY
                self.expect(source, begin, end)

    def expect(self, number: int, begin: int, end: int) -> None:
        assert self.stores[number][begin:end] == [(number, row) for row in range(begin, end)]

    def release(self, index: int, cursor: Cursor) -> None:
        for number in self.plan.ending[index]:
            store = self.stores[number]
            if self.plan.places[number] is Place.MEMORY and store is not self.stores.get(cursor.target):
                store[: cursor.find_lowest(number)] = [None] * cursor.find_lowest(number)


@given(case=cases, cells=heights, seed=seeds)
@settings(max_examples=150)
def test_every_row_that_is_read_is_there(case: tuple[str, Task], cells: int, seed: int) -> None:
    frame = build(*case, cells)
    Ledger(frame, build_planner(frame).measure(draw_choice(frame, seed))).run()


@pytest.mark.parametrize(("name", "task"), CASES)
@pytest.mark.parametrize("strip", [8, 32, WHOLE])
def test_the_extremes(name: str, task: Task, strip: int) -> None:
    """Nothing is kept that need not be; everything is."""
    frame = build(name, task, 5)
    for place in Place:
        places = {number: Place.MEMORY if number in frame.whole else place for number in range(len(frame.graph.nodes))}
        plan = build_planner(frame).measure(Choice(places=places, strip=strip))
        Ledger(frame, plan).run()
        if place is not Place.PASSING:
            assert len(plan.passes) == len(frame.graph.nodes) - 1 and all(len(one.computed) == 1 for one in plan.passes)


@given(case=cases, cells=heights, seed=seeds)
@settings(max_examples=40)
def test_passes_are_those_that_are_needed(case: tuple[str, Task], cells: int, seed: int) -> None:
    frame = build(*case, cells)
    choice = draw_choice(frame, seed)
    passes = list_passes(frame, choice.places, choice.strip)
    targets = [one.target for one in passes]
    assert targets == sorted(set(targets)) and targets[-1] == len(frame.graph.nodes) - 1
    for number, place in choice.places.items():
        assert (number in targets) == (number > 0 and (place is not Place.PASSING or number in frame.normed))
    last = find_last_reads(passes, choice.places)
    for number, index in last.items():
        assert choice.places[number] is not Place.PASSING
        assert number in passes[index].kept | passes[index].loaded
        assert not any(number in one.kept | one.loaded for one in passes[index + 1 :])
    for one in passes:
        assert all(choice.places[number] is Place.MEMORY for number in one.kept)
        assert all(choice.places[number] is Place.FILE for number in one.loaded)


def test_something_is_written_over() -> None:
    """The property above would hold if nothing ever were."""
    frame = build("pocket", "decode", 4)
    everything = dict.fromkeys(range(len(frame.graph.nodes)), Place.MEMORY)
    plan = build_planner(frame).measure(Choice(places=everything))
    assert len(plan.replaced) >= 5
    for index, number in plan.replaced.items():
        target = frame.node(plan.passes[index].target)
        assert frame.sizes[number] == frame.sizes[plan.passes[index].target] and number in plan.ending[index]
        assert not (isinstance(target.layer, Convolve) and target.inputs[0] == number)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_windows_do_not_grow_with_the_picture(name: str, task: Task) -> None:
    found = []
    for cells in (64, 72):
        frame = build(name, task, cells)
        places = {number: Place.MEMORY if number in frame.whole else Place.PASSING for number in range(len(frame.graph.nodes))}
        found.append([dict(one.nodes) for one in list_passes(frame, places, 8)])
        assert any(frame.sizes[number].height > rows for one in found[-1] for number, rows in one.items())
    assert found[0] == found[1]
