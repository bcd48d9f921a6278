"""Runs a schedule: pass after pass, strip after strip."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..nn.convolving import Kernels
from ..nn.graph import Apply, Attend, Convolve
from ..nn.kernels.moments import Moments, add_moments
from ..nn.rows import Rows, apply, attend, measure
from .plan import Plan
from .schedule import Cursor, Frame, Pass, Piece, Place
from .storage import Arena, Memory, Spill, Window

Watch = Callable[[float], None]


@dataclass(kw_only=True, eq=False)
class Run:
    """One run of a plan. `folder` is where feature maps are spilled; `watch` is told the share of the work that is done.

    `arena` has the buffers that earlier runs have left, for a plan that reuses them.
    """

    frame: Frame
    plan: Plan
    kernels: Kernels
    device: torch.device
    folder: Path
    watch: Watch
    stores: dict[int, Memory | Spill] = field(default_factory=dict)
    moments: dict[int, Moments] = field(default_factory=dict)
    arena: Arena[mmap.mmap] | None = None

    @torch.no_grad()
    def run(self, x: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 c2 h2 w2"]:
        """The network's result for an input of the frame's size and dtype, on its device."""
        try:
            self.stores[0] = Memory(self.frame.sizes[0], self.device, self.arena)
            self.stores[0].rows.copy_(x[0].permute(1, 2, 0))
            if 0 in self.frame.normed:
                self.moments[0] = measure(self.stores[0].rows)
            for index, one in enumerate(self.plan.passes):
                self.run_pass(one, index)
            result = self.stores[self.plan.passes[-1].target]
            assert isinstance(result, Memory)
            return result.rows.permute(2, 0, 1)[None].contiguous()
        finally:
            self.close()

    def close(self) -> None:
        self.free(frozenset(self.stores))

    def run_pass(self, one: Pass, index: int) -> None:
        ending = self.plan.ending[index]
        self.place_target(one, index)
        cursor = Cursor(self.frame, one.target, one.strip, frozenset(one.nodes) - {one.target}, one.loaded)
        windows = {number: Window(size=self.frame.sizes[number], capacity=rows, device=self.device) for number, rows in one.nodes.items()}
        found: dict[int, list[Moments]] = {number: [] for number in one.computed if number not in self.moments}
        for piece in cursor.cut():
            moments = self.make(piece, one, windows, piece.node in found and piece.node in self.frame.normed)
            if piece.node in found and moments is not None:
                found[piece.node].append(moments)
            if piece.node == one.target:
                if self.arena is None:
                    self.release(ending, cursor)
                self.watch(self.plan.find_share(index, piece.end / self.frame.sizes[one.target].height))
        self.moments |= {number: add_moments(*parts) for number, parts in found.items() if parts and self.is_whole(number, cursor)}
        self.free(ending)
        self.kernels.end_pass(self.plan.keeps_weights)

    def free(self, ending: frozenset[int]) -> None:
        """Let go of what nobody reads again."""
        for store in [self.stores.pop(number) for number in ending]:
            if store not in self.stores.values():
                self.let_go(store)

    def let_go(self, store: Memory | Spill) -> None:
        if isinstance(store, Spill):
            store.close()
        elif self.arena is not None and store.buffer is not None:
            self.arena.give(store.buffer)

    def is_whole(self, number: int, cursor: Cursor) -> bool:
        return cursor.done[number] == self.frame.sizes[number].height

    def place_target(self, one: Pass, index: int) -> None:
        """Where the target of a pass goes: over a node that nobody needs any more, to new memory, to a new file, or nowhere."""
        place, size = self.plan.places[one.target], self.frame.sizes[one.target]
        replaced = self.plan.replaced.get(index)
        if place is Place.PASSING:
            return
        if replaced is not None:
            self.stores[one.target] = self.stores[replaced]
        elif place is Place.FILE:
            self.stores[one.target] = Spill(size, self.folder)
        else:
            self.stores[one.target] = Memory(size, self.device, self.arena)

    def release(self, ending: frozenset[int], cursor: Cursor) -> None:
        for number in ending:
            store = self.stores[number]
            if isinstance(store, Memory) and store is not self.stores.get(cursor.target):
                store.release(cursor.find_lowest(number))

    def make(self, piece: Piece, one: Pass, windows: dict[int, Window], measured: bool) -> Moments | None:
        """Compute or load the rows of a piece, and put them where they belong."""
        number, size = piece.node, self.frame.sizes[piece.node]
        if number in windows:
            pixels = windows[number].advance(piece.keep, piece.end)
        else:
            store = self.stores[number]
            assert isinstance(store, Memory)
            pixels = store.rows[piece.begin : piece.end]
        if number in one.loaded:
            store = self.stores[number]
            assert isinstance(store, Spill)
            store.read(pixels, piece.begin)
            return None
        moments = self.compute(number, Rows(pixels=pixels, height=size.height, first=piece.begin), windows, measured)
        if number == one.target and self.plan.places[number] is Place.FILE:
            store = self.stores[number]
            assert isinstance(store, Spill)
            store.write(pixels, piece.begin)
        return moments

    def compute(self, number: int, target: Rows, windows: dict[int, Window], measured: bool) -> Moments | None:
        node = self.frame.node(number)
        sources = [self.find_rows(source, windows) for source in node.inputs]
        moments = None
        if isinstance(node.layer, Convolve):
            residual = sources[1] if len(sources) > 1 else None
            moments = self.kernels.convolve(node.layer, sources[0], target, self.moments.get(node.inputs[0]), residual)
        elif isinstance(node.layer, Attend):
            attend(sources[0], sources[1], sources[2], target)
        elif isinstance(node.layer, Apply):
            apply(node.layer, sources, target)
        return measure(target.pixels) if measured and moments is None else moments

    def find_rows(self, number: int, windows: dict[int, Window]) -> Rows:
        height = self.frame.sizes[number].height
        if number in windows:
            return Rows(pixels=windows[number].rows, height=height, first=windows[number].low)
        store = self.stores[number]
        assert isinstance(store, Memory)
        return Rows(pixels=store.rows, height=height)
