"""What is kept, what is made again and what goes to a file, so that a run stays inside its memory and takes as little time as it can.

A plan is made before anything is allocated. It starts with everything in memory and, as long as some pass takes more than there is, makes
the change that gives back most bytes for a second: weights prepared anew, narrower strips, a feature map that is made again where it is
needed, or kept in a file. The results are the same, whatever the plan.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

from ..core.errors import RequestError
from ..core.memory import to_amount
from ..nn.convolving import Kernels
from ..nn.graph import SIDE, Attend, Convolve
from .cost import CALL, DISK, READING, STREAMED, Machine, count_extra, count_seconds
from .schedule import WHOLE, Frame, Pass, Place, find_last_reads, list_passes
from .storage import Arena

PATIENCE = 1.6  # times the fastest plan that one without files may take; a slower one goes to files if these are faster
AIMS = (1.0, 0.85, 0.7, 0.5)  # shares of the budget that searches go for
STRIPS = (256, 128, 64, 32, 16, 8)  # rows
CAN_RELEASE = hasattr(mmap, "MADV_DONTNEED")


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """What a plan decides: where feature maps are, how high strips are, whether weights that were prepared are kept for the next run, and
    whether the memory of a feature map that is done with is kept for another one.
    """

    places: dict[int, Place]
    strip: int = WHOLE
    keeps_weights: bool = False
    reuses: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Passes with the bytes and seconds that each takes. `ending` are the nodes that each pass is the last to read, `replaced` those that
    its target is written over. `base` is what the process took before, `tail` what the result takes when all else is gone.
    """

    choice: Choice
    passes: tuple[Pass, ...]
    ending: tuple[frozenset[int], ...]
    replaced: dict[int, int]
    bytes: tuple[int, ...]
    seconds: tuple[float, ...]
    base: int
    spilled: int

    @property
    def places(self) -> dict[int, Place]:
        return self.choice.places

    @property
    def keeps_weights(self) -> bool:
        return self.choice.keeps_weights

    @property
    def rise_bytes(self) -> int:
        """What it takes at most, above `base`."""
        return max(self.bytes)

    @property
    def peak_bytes(self) -> int:
        """The largest resident memory of the process."""
        return self.base + self.rise_bytes

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds)

    @cached_property
    def begun(self) -> list[float]:
        return list(accumulate(self.seconds, initial=0.0))

    def find_share(self, index: int, part: float) -> float:
        """How much of the work is done when so much of a pass is."""
        return (self.begun[index] + part * self.seconds[index]) / self.begun[-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Planner:
    """Plans for one network on one size of input. `arena` is what an earlier run has left; `again` says
    that there was one, so that there may be more, and weights are worth keeping.
    """

    frame: Frame
    kernels: Kernels
    machine: Machine
    base: int
    arena: Arena[Any] = field(default_factory=lambda: Arena(lambda _: None))
    again: bool = False

    @cached_property
    def fast(self) -> list[bool]:
        pairs = zip(self.frame.graph.nodes, self.frame.sizes, strict=True)
        return [isinstance(node.layer, Convolve) and self.kernels.is_fast(node.layer, size) for node, size in pairs]

    def count_seconds(self, one: Pass, number: int) -> float:
        """Of making a node once, in the strips of a pass."""
        is_convolution = isinstance(self.frame.node(number).layer, Convolve)
        rate = self.kernels.find_rate(*self.describe(one, number)) if is_convolution else 1.0
        return count_seconds(self.frame, number, rate, self.machine)

    def count_weights(self, one: Pass, number: int) -> int:
        """Bytes of a fast layer's weights as a pass needs them."""
        return self.kernels.count_weights(*self.describe(one, number))

    def count_packing(self, one: Pass, number: int) -> float:
        return self.kernels.count_packing(*self.describe(one, number)) / self.machine.speed

    def count_scratch(self, one: Pass, number: int) -> int:
        return self.kernels.count_scratch(*self.describe(one, number))

    def describe(self, one: Pass, number: int) -> tuple[Convolve, Size, int]:
        """A convolution, its result, and how many rows of it a pass makes at once."""
        layer = self.frame.node(number).layer
        assert isinstance(layer, Convolve)
        return layer, self.frame.sizes[number], self.rows(one, number)

    def plan(self, budget: int | None) -> Plan:
        """The fastest found whose peak is within `budget` bytes. Raises RequestError, with the smallest that works."""
        last = len(self.frame.graph.nodes) - 1
        plan = self.measure(Choice(places=dict.fromkeys(range(last + 1), Place.MEMORY), keeps_weights=self.again))
        if budget is None or plan.peak_bytes <= budget:
            return plan
        fitting = self.search(plan, budget, (Place.PASSING,))
        if fitting is None or fitting.total_seconds > PATIENCE * plan.total_seconds:
            fitting = self.search(plan, budget, (Place.PASSING, Place.FILE), fitting)
        if fitting is not None:
            return fitting
        # of the way to the smallest, which depends on no budget: so what is named to the user works
        smallest = self.shrink(plan, 0, (Place.PASSING, Place.FILE))
        if smallest.peak_bytes <= budget:
            return self.widen(smallest, budget)
        what = f"this takes {to_amount(smallest.peak_bytes)} at least, and --memory allows {to_amount(budget)}"
        raise RequestError(what, hint=f"--memory {to_amount(smallest.peak_bytes * 1.02).replace(' ', '')} is the smallest that works")

    def search(self, plan: Plan, budget: int, allowed: tuple[Place, ...], best: Plan | None = None) -> Plan | None:
        """The fastest of some that fit, and of `best`. Going for less than the budget and widening what comes of it is sometimes better."""
        for share in AIMS:
            aim = self.base + int(share * (budget - self.base))
            found = self.shrink(plan, aim, allowed)
            if found.peak_bytes <= budget:
                found = self.widen(found, budget)
                best = found if best is None or found.total_seconds < best.total_seconds else best
        return best

    def shrink(self, plan: Plan, budget: int, allowed: tuple[Place, ...]) -> Plan:
        """Change after change, the one that gives back most bytes for a second first, until the plan fits or nothing helps.

        Feature maps that leave the memory go to the places that are `allowed`.
        """
        while plan.peak_bytes > budget:
            worst = self.excess(plan, budget)
            found = [changed for changed in map(self.measure, self.list_changes(plan, allowed)) if self.excess(changed, budget) < worst]
            if not found:
                return plan
            plan = min(found, key=lambda changed: self.rate(plan, changed, budget))
        return plan

    def excess(self, plan: Plan, budget: int) -> float:
        """How far passes are above the budget; first of all the worst."""
        over = [max(0, plan.base + size - budget) for size in plan.bytes]
        return max(over) + sum(over) / len(over)

    def rate(self, plan: Plan, changed: Plan, budget: int) -> float:
        """Seconds for a byte."""
        return max(changed.total_seconds - plan.total_seconds, 1e-6) / (self.excess(plan, budget) - self.excess(changed, budget))

    def list_changes(self, plan: Plan, allowed: tuple[Place, ...]) -> Iterator[Choice]:
        choice = plan.choice
        if choice.reuses:
            choice = replace(choice, reuses=False)
            yield choice
        if choice.keeps_weights:
            yield replace(choice, keeps_weights=False)
        narrower = [strip for strip in STRIPS if strip < choice.strip]
        if narrower:
            yield replace(choice, strip=narrower[0])
        worst = max(range(len(plan.passes)), key=plan.bytes.__getitem__)
        for number in self.list_held(plan, worst):
            for place in allowed:
                for strip in dict.fromkeys([choice.strip, min(choice.strip, 64)]):
                    yield replace(choice, places={**choice.places, number: place}, strip=strip)

    def list_held(self, plan: Plan, index: int) -> list[int]:
        """Nodes in memory during a pass that need not be: made before or by it, and read then or later."""
        last = find_last_reads(plan.passes, plan.places)
        made = {one.target: number for number, one in enumerate(plan.passes)}
        held = [number for number in made if made[number] <= index <= last.get(number, -1) and plan.places[number] is Place.MEMORY]
        return [number for number in held if number not in self.frame.whole]

    def widen(self, plan: Plan, budget: int) -> Plan:
        """Use what is left: feature maps that fit into memory after all, wider strips, weights that are kept."""
        for number, place in plan.places.items():
            if place is not Place.MEMORY:
                changed = self.measure(replace(plan.choice, places={**plan.places, number: Place.MEMORY}))
                if changed.peak_bytes <= budget and changed.total_seconds < plan.total_seconds:
                    plan = changed
        for strip in reversed(STRIPS):
            wider = self.measure(replace(plan.choice, strip=max(strip, plan.choice.strip)))
            if wider.peak_bytes <= budget and wider.total_seconds < plan.total_seconds:
                plan = wider
        kept = self.measure(replace(plan.choice, keeps_weights=self.again))
        return kept if kept.peak_bytes <= budget else plan

    def measure(self, choice: Choice) -> Plan:
        """The passes of a choice, and what they take."""
        passes = list_passes(self.frame, choice.places, choice.strip)
        last = find_last_reads(passes, choice.places)
        ending = [frozenset(number for number, end in last.items() if end == index) for index in range(len(passes))]
        result = len(self.frame.graph.nodes) - 1
        held, packed, replaced, sizes, seconds = {0: self.frame.sizes[0].bytes}, dict[int, int](), dict[int, int](), [], []
        scratch = spilled = before = 0
        arena = self.arena.count()
        buffers = {0: arena.take(self.frame.sizes[0].bytes)} if choice.reuses else {}
        files: dict[int, int] = {}
        for index, one in enumerate(passes):
            place = choice.places[one.target]
            over = sorted(number for number in ending[index] & one.replaceable if choice.places[number] is place is not Place.PASSING)
            if over:
                replaced[index] = over[0]
            fast = [number for number in one.computed if self.fast[number]]
            packed = (packed if choice.keeps_weights else {}) | {number: self.count_weights(one, number) for number in fast}
            weights = sum(packed.values())
            scratch = max([scratch, *(self.count_scratch(one, number) for number in fast)])
            moving = self.move(one, ending[index] - set(over[:1]), held, new=place is Place.MEMORY and not over)
            if choice.reuses:
                buffers |= {one.target: buffers.pop(over[0])} if over else {one.target: arena.take(self.frame.sizes[one.target].bytes)}
                for number in ending[index] - set(over[:1]):
                    arena.give(buffers.pop(number))
                moving = arena.total
            windows = sum(self.frame.sizes[number].row_bytes * rows for number, rows in one.nodes.items())
            extra = max([0, *(count_extra(self.frame, number, self.fast[number], self.rows(one, number)) for number in one.computed)])
            sizes.append(moving + windows + extra + scratch + max(weights, before))
            before = max(weights, before) if packed else 0  # buffers that the next pass prepares its weights in
            seconds.append(self.time(one, place, fast if not choice.keeps_weights else ()))
            if place is Place.FILE and not over:
                files[one.target] = self.frame.sizes[one.target].bytes
            spilled = max(spilled, sum(files.values()))
            for number in ending[index]:
                held.pop(number, None)
                files.pop(number, None)
            if place is not Place.PASSING:
                (held if place is Place.MEMORY else files)[one.target] = self.frame.sizes[one.target].bytes
        sizes[-1] += self.frame.sizes[result].bytes  # the copy that is handed over, channels first
        return Plan(
            choice=choice,
            passes=tuple(passes),
            ending=tuple(ending),
            replaced=replaced,
            bytes=tuple(sizes),
            seconds=tuple(seconds),
            base=self.base,
            spilled=spilled,
        )

    def rows(self, one: Pass, number: int) -> int:
        """How many rows of a node a pass makes at once, at most."""
        return one.nodes.get(number, min(one.strip, self.frame.sizes[number].height))

    def move(self, one: Pass, ending: frozenset[int], held: dict[int, int], *, new: bool) -> int:
        """Bytes of whole feature maps during a pass, at most: while it goes down, what it reads for the last time goes back row by row."""
        size = self.frame.sizes[one.target]
        grows = size.bytes if new else 0
        stays = sum(amount for number, amount in held.items() if number not in ending)
        attended = (self.frame.node(number) for number in one.computed if isinstance(self.frame.node(number).layer, Attend))
        asked = {source for node in attended for source in node.inputs}
        goes = sum(held[number] for number in ending - asked if number in held)
        stays += sum(held[number] for number in ending & asked if number in held)
        if one.strip >= size.height or not CAN_RELEASE:
            return stays + goes + grows
        part = one.strip / size.height
        return stays + int(max(goes + grows * part, goes * part + grows))

    def time(self, one: Pass, place: Place, packing: Sequence[int]) -> float:
        work = sum(self.time_node(one, number) for number in one.computed) + sum(self.count_packing(one, number) for number in packing)
        read = sum(self.frame.sizes[number].bytes for number in one.loaded)
        written = self.frame.sizes[one.target].bytes if place is Place.FILE else 0
        return work + (read + written) / DISK

    def time_node(self, one: Pass, number: int) -> float:
        """Seconds that a node takes in a pass: in strips its weights are read for each, and the tiles that two of them share made twice."""
        target, size = self.frame.sizes[one.target], self.frame.sizes[number]
        strips = -(-target.height // one.strip)
        if strips == 1:
            return self.count_seconds(one, number)
        layer = self.frame.node(number).layer
        shared = 2 * SIDE * (strips - 1) / size.height if isinstance(layer, Convolve) and layer.enlarge else 0.0
        read = self.count_weights(one, number) / READING if self.fast[number] else 0.0
        return self.count_seconds(one, number) * (STREAMED + shared) + (strips - 1) * (CALL + read)
