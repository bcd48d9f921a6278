"""What a pass takes: seconds and bytes, before it is run.

Seconds are for comparing plans: rates of one processor core, scaled by how fast this one multiplies matrices.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch

from ..nn.convolving import REFERENCE
from ..nn.graph import Attend, Convolve
from ..nn.rows import CHUNK, QUERIES
from .schedule import Frame

ATTENTION = 60e9  # operations a second of a core of the reference
COPYING, DISK = 4e9, 1e9  # bytes a second
CALL = 2e-4  # seconds that a layer takes to start
READING = 1e10  # bytes of weights a second, which every strip reads again
STREAMED = 1.04  # times longer in strips, whatever their height


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Threads, and how much faster than the reference each is."""

    threads: int
    speed: float = 1.0


@cache
def measure_speed(threads: int) -> float:
    """A few products of matrices, about 10 ms."""
    matrix = torch.rand(768, 768)
    best = min(time_product(matrix) for _ in range(4))
    return 2 * 768**3 / best / (REFERENCE * threads)


def time_product(matrix: torch.Tensor) -> float:
    begin = time.perf_counter()
    matrix @ matrix
    return time.perf_counter() - begin


def count_seconds(frame: Frame, number: int, rate: float, machine: Machine) -> float:
    """Of making a whole node once; a convolution by so many operations a second of one core of the reference."""
    node, size = frame.node(number), frame.sizes[number]
    pixels, speed = size.height * size.width, machine.threads * machine.speed
    if isinstance(node.layer, Convolve):
        return CALL + 2.0 * pixels * node.layer.weight.numel() / (rate * speed)
    if isinstance(node.layer, Attend):
        source = frame.sizes[node.inputs[1]]
        return CALL + 4.0 * pixels * source.height * source.width * size.channels / (ATTENTION * speed)
    return CALL + 3 * size.bytes / COPYING


def count_operations(frame: Frame) -> float:
    """Multiplications and additions of all convolutions, made directly."""
    pairs = zip(frame.graph.nodes, frame.sizes, strict=True)
    return sum(2.0 * size.height * size.width * node.layer.weight.numel() for node, size in pairs if isinstance(node.layer, Convolve))


def count_extra(frame: Frame, number: int, is_fast: bool, rows: int) -> int:
    """Bytes that torch takes for a moment while it makes `rows` of a node."""
    node, size = frame.node(number), frame.sizes[number]
    made = rows * size.row_bytes
    if isinstance(node.layer, Attend):
        return min(QUERIES, rows * size.width) * size.channels * size.dtype.itemsize * 2
    if is_fast:
        return 0
    source = frame.sizes[node.inputs[0]]
    read = source.row_bytes * rows * source.height // size.height
    return 3 * min(CHUNK, max(made, read))
