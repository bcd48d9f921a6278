"""In which order the rows of a graph are computed, and what has to be held meanwhile.

Every node has a place: whole in memory, whole in a file, or `passing`, which means that its rows are made where they are needed and
forgotten. Work is a list of passes. A pass makes one node from top to bottom, strip by strip, out of nodes that are kept and through nodes
that are passing. Where a group normalisation needs the moments of a passing node, there is a pass that makes it for those alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import torch

from ..nn.graph import Attend, Convolve, Graph, Node, find_rows
from .storage import Size

WHOLE = 1 << 30  # rows of a strip: more than a picture has


class Place(Enum):
    MEMORY = "memory"
    FILE = "file"
    PASSING = "passing"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Rows of a node that are computed at once, or read from a file; its rows above `keep` are not needed any more."""

    node: int
    begin: int
    end: int
    keep: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """Makes `target`, for its moments alone where that is passing. `nodes` are those that move through windows, by their capacity in rows;
    `kept` are the nodes read whole from memory, `loaded` those of the windows that come from a file. `replaceable` are nodes that the
    target can be written over, if nobody needs them later: of its size, and read further down than it is written.
    """

    target: int
    strip: int
    nodes: Mapping[int, int]
    kept: frozenset[int]
    loaded: frozenset[int]
    replaceable: frozenset[int]

    @cached_property
    def computed(self) -> tuple[int, ...]:
        return tuple(sorted({*self.nodes, self.target} - self.loaded))


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """A graph on an input of one size."""

    graph: Graph
    height: int
    width: int
    dtype: torch.dtype

    @cached_property
    def sizes(self) -> list[Size]:
        pairs = zip(self.graph.measure(self.height, self.width), self.graph.nodes, strict=True)
        return [Size(height=height, width=width, channels=node.channels, dtype=self.dtype) for (height, width), node in pairs]

    @cached_property
    def normed(self) -> set[int]:
        return self.graph.find_normed()

    @cached_property
    def whole(self) -> set[int]:
        """Nodes that have to be kept, because all of their rows are read at once: keys and values; and the two ends."""
        ends = {0, len(self.graph.nodes) - 1}
        return ends.union(*(node.inputs[1:] for node in self.graph.nodes if isinstance(node.layer, Attend)))

    @cached_property
    def passes(self) -> dict[tuple[object, ...], Pass]:
        """Those built so far, by what they depend on."""
        return {}

    @cached_property
    def readers(self) -> list[list[tuple[int, int]]]:
        """For every node who reads it, and in which slot."""
        found: list[list[tuple[int, int]]] = [[] for _ in self.graph.nodes]
        for number, node in enumerate(self.graph.nodes):
            for slot, source in enumerate(node.inputs):
                found[source].append((number, slot))
        return found

    def node(self, number: int) -> Node:
        return self.graph.nodes[number]

    def rows(self, number: int, slot: int, begin: int, end: int) -> tuple[int, int]:
        """Which rows of its input a node reads."""
        return find_rows(self.graph, number, slot, (begin, end), self.sizes[self.node(number).inputs[slot]].height)


class Cursor:
    """How far each node of a pass has come."""

    def __init__(self, frame: Frame, target: int, strip: int, moving: frozenset[int], loaded: frozenset[int]) -> None:
        self.frame, self.target, self.strip, self.moving, self.loaded = frame, target, strip, moving, loaded
        self.done = dict.fromkeys([*moving, target], 0)

    def find_lowest(self, number: int) -> int:
        """The first row of a node that is still read in this pass."""
        lowest = self.frame.sizes[number].height
        for reader, slot in self.frame.readers[number]:
            done = self.done.get(reader, -1)
            if reader not in self.loaded and 0 <= done < self.frame.sizes[reader].height:
                lowest = min(lowest, self.frame.rows(reader, slot, done, done + 1)[0])
        return lowest

    def pull(self, number: int, upto: int) -> Iterator[Piece]:
        begin, node = self.done[number], self.frame.node(number)
        end = min(self.frame.sizes[number].height, -(-upto // node.alignment) * node.alignment)
        if end <= begin:
            return
        if number not in self.loaded:
            for slot, source in enumerate(node.inputs):
                if source in self.moving:
                    yield from self.pull(source, self.frame.rows(number, slot, begin, end)[1])
        keep = min(self.find_lowest(number), begin) if number in self.moving else begin
        self.done[number] = end  # only now: rows that this piece reads were not to be dropped before
        yield Piece(node=number, begin=begin, end=end, keep=keep)

    def cut(self) -> Iterator[Piece]:
        """The pieces of the pass, in the order in which they can be computed."""
        for begin in range(0, self.frame.sizes[self.target].height, self.strip):
            yield from self.pull(self.target, begin + self.strip)

    def is_read(self, number: int) -> bool:
        """Whether rows of a node that the target's rows so far would be written over are still to be read."""
        ahead = self.done[number] if number in self.loaded else self.find_lowest(number)
        return ahead < self.done[self.target]


def reads_aside(node: Node, slot: int) -> bool:
    """Whether a node may read rows of an input when it has written the same rows: neighbours, or once more for other channels."""
    return (isinstance(node.layer, Convolve) and slot == 0) or (isinstance(node.layer, Attend) and slot > 0)


def build_pass(frame: Frame, target: int, places: Mapping[int, Place], strip: int) -> Pass:
    """Everything that `target` comes from, back to what is kept."""
    moving: set[int] = set()
    kept: set[int] = set()
    waiting = [*frame.node(target).inputs]
    while waiting:
        number = waiting.pop()
        if places[number] is Place.MEMORY:
            kept.add(number)
        elif number not in moving:
            moving.add(number)
            waiting += frame.node(number).inputs if places[number] is Place.PASSING else ()
    loaded = frozenset(number for number in moving if places[number] is Place.FILE)
    key = (target, places[target], strip, frozenset(moving), loaded)
    if key not in frame.passes:
        cursor = Cursor(frame, target, strip, frozenset(moving), loaded)
        capacities = dict.fromkeys(sorted({*moving, target}), 0)
        aside = {source for slot, source in enumerate(frame.node(target).inputs) if reads_aside(frame.node(target), slot)}
        sources = {number for number in (kept | loaded) - aside if number and frame.sizes[number] == frame.sizes[target]}
        for piece in cursor.cut():
            capacities[piece.node] = max(capacities[piece.node], piece.end - piece.keep)
            if piece.node == target:
                sources -= {number for number in sources if cursor.is_read(number)}
        if places[target] is Place.MEMORY:
            del capacities[target]
        frame.passes[key] = Pass(
            target=target, strip=strip, nodes=capacities, kept=frozenset(kept), loaded=loaded, replaceable=frozenset(sources)
        )
    return frame.passes[key]


def list_passes(frame: Frame, places: Mapping[int, Place], strip: int) -> list[Pass]:
    """All passes, in order: one for every node that is kept, and one for every passing node whose moments are needed."""
    wanted = [number for number in range(1, len(places)) if places[number] is not Place.PASSING or number in frame.normed]
    return [build_pass(frame, number, places, strip) for number in wanted]


def find_last_reads(passes: Sequence[Pass], places: Mapping[int, Place]) -> dict[int, int]:
    """For every node that is kept, the number of the pass that reads it last."""
    last: dict[int, int] = {}
    for index, one in enumerate(passes):
        for number in (*one.kept, *one.loaded):
            last[number] = index
    return last
