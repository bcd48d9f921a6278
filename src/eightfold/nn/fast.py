"""The convolutions of a graph by the kernels that need fewer operations; layers that they do not fit are torch's.

Importing this loads numba: see `nn.kernels.ready`.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .convolving import LINEAR, Kernels
from .graph import Before, Convolve, find_convolved
from .kernels import layers as kernels
from .kernels.before import Before as Prepared
from .kernels.cooktoom import F42, F43
from .kernels.geometry import choose_points, count_tiles
from .kernels.moments import Moments, add_moments
from .kernels.packed import Packed, choose_lanes, count_numbers, pack_weights
from .kernels.plane import Plane
from .kernels.pool import Pool
from .kernels.rounding import ALLOWED, Gain, measure_gain, predict_spread, should_run_directly, to_reach
from .kernels.streamed import Image, convolve_streamed, count_streamed, fits
from .kernels.strided import convolve_strided, pack_strided
from .rows import CHUNK, Rows, Size, measure, to_table

FEWEST = 1024  # pixels of a result below which prepared weights of a layer take longer to read than its products
LEAST = 4e8  # multiplications and additions of a layer with streamed weights below which that takes longer than it saves
NARROWEST = 32  # channels of a 1x1 convolution
PADDED = 60  # rows at once of a layer that makes more channels than are wanted: whole tiles
# Counted as a direct convolution would need them; LARGE in large tiles, STREAMING with weights that are prepared where they are used
FAST, LARGE, ENLARGING, STREAMING = 280e9, 310e9, 470e9, 150e9
RATES = {1: LINEAR, 5: ENLARGING, 6: FAST, 8: LARGE}  # by the points of a tile
PACKING = 6e8  # transformed weights a second of one thread


class FastKernels(Kernels):
    """`lanes` are float32 numbers of a vector; what is prepared for a layer is kept for the next run where the plan allows it."""

    def __init__(self, lanes: int, threads: int) -> None:
        self.lanes = lanes
        self.name = f"Winograd F(4x4, 3x3) and F(6x6, 3x3), vectors of {lanes}"
        self.pool = Pool(threads)
        self.packed: dict[Convolve, Packed] = {}
        self.spares: list[np.ndarray] = []
        self.gains: dict[tuple[Convolve, int], Gain] = {}  # for so many points, 0 where weights are streamed
        self.direct: set[Convolve] = set()  # what was run directly, for the sake of rounding

    @property
    def threads(self) -> int:
        return len(self.pool.scratches)

    def is_fast(self, layer: Convolve, size: Size) -> bool:
        lanes = choose_lanes(layer.weight.shape[1], layer.outputs, self.lanes)
        if not lanes or layer.kernel not in (1, 3):
            return False
        if size.height * size.width < FEWEST:
            return self.is_streamed(layer, size)
        if layer.stride != 1:
            plain = layer.kernel == 3 and layer.edge == "zeros" and layer.before.does_nothing
            return layer.stride == 2 and plain and self.count_stored(layer) == layer.outputs
        if layer.kernel == 1:
            return min(layer.weight.shape[:2]) >= NARROWEST and self.count_stored(layer) == layer.outputs
        return not (layer.enlarge and layer.edge != "zeros")

    def is_streamed(self, layer: Convolve, size: Size) -> bool:
        """Whether a layer makes so few pixels that its weights are transformed where they are used, if all are made at once."""
        plain = layer.kernel == 3 and layer.stride == 1 and layer.edge == "zeros" and layer.before.channel is None
        few, work = size.height * size.width < FEWEST, 2.0 * size.height * size.width * layer.weight.numel()
        if not plain or not few or work < LEAST or layer.weight.dtype != torch.float32 or not layer.weight.is_contiguous():
            return False
        return fits(layer.weight.shape[1], layer.outputs, self.choose_lanes(layer))

    def count_stored(self, layer: Convolve) -> int:
        wide = 2 * self.choose_lanes(layer)
        return -(-layer.outputs // wide) * wide

    def choose_lanes(self, layer: Convolve) -> int:
        return choose_lanes(layer.weight.shape[1], layer.outputs, self.lanes)

    def choose_points(self, layer: Convolve, size: Size, rows: int) -> int:
        """Of a tile, along an axis; 1 for what is a linear map of pixels or patches.

        Strips are made in small tiles: with large ones they would have to be higher, and every layer of a chain read further ahead.
        """
        if layer.kernel == 1 or layer.stride == 2:
            return 1
        if layer.enlarge:
            return 5
        return choose_points(layer.weight.shape[1], layer.outputs, size.height * size.width) if rows >= size.height else 6

    def count_weights(self, layer: Convolve, size: Size, rows: int) -> int:
        if self.is_streamed(layer, size):
            return 0
        return self.count_bytes(layer, self.choose_points(layer, size, rows))

    def count_bytes(self, layer: Convolve, points: int) -> int:
        outputs, channels, kernel, _ = layer.weight.shape
        if layer.stride == 2:
            channels, kernel = channels * kernel**2, 1
        return 4 * count_numbers(channels, outputs, self.choose_lanes(layer), kernel=kernel, enlarge=layer.enlarge, points=points)

    def count_packing(self, layer: Convolve, size: Size, rows: int) -> float:
        return self.count_weights(layer, size, rows) / 4 / (PACKING * self.threads)

    def find_rate(self, layer: Convolve, size: Size, rows: int) -> float:
        if not self.is_fast(layer, size):
            return super().find_rate(layer, size, rows)
        if self.is_streamed(layer, size):
            return STREAMING if rows >= size.height else super().find_rate(layer, size, rows)
        return RATES[self.choose_points(layer, size, rows)]

    def count_held(self) -> int:
        """Bytes of prepared weights and of buffers that are left from earlier runs, and will be used again."""
        buffers = (buffer for scratch in self.pool.scratches for buffer in scratch.buffers.values())
        return sum(one.weights.nbytes for one in self.packed.values()) + sum(buffer.nbytes for buffer in buffers)

    def count_scratch(self, layer: Convolve, size: Size, rows: int) -> int:
        channels, stored, step = layer.weight.shape[1], self.count_stored(layer), 2 if layer.enlarge else 1
        if self.is_streamed(layer, size):
            if rows < size.height:  # torch's
                return 3 * CHUNK
            height, width = size.height // step, size.width // step
            lanes = self.choose_lanes(layer)
            return 4 * count_streamed(height, width, channels, lanes=lanes, enlarge=layer.enlarge, threads=self.threads)
        points = self.choose_points(layer, size, rows)
        channels *= 9 if layer.stride == 2 else 1
        tiles = count_tiles((0, rows), size.width // step, points)
        padded = 0 if stored == layer.outputs else min(PADDED, rows) * size.width * stored
        return 4 * (self.threads * kernels.count_scratch(channels, stored, points, tiles, self.threads) + padded)

    def convolve(self, layer: Convolve, source: Rows, target: Rows, moments: Moments | None, residual: Rows | None) -> Moments | None:
        size = Size(height=target.height, width=target.pixels.shape[1], channels=layer.outputs, dtype=target.pixels.dtype)
        if not self.is_fast(layer, size):
            return super().convolve(layer, source, target, moments, residual)
        if self.is_streamed(layer, size):
            return self.stream(layer, source, target, moments, residual)
        to, added = to_plane(target), None if residual is None else to_plane(residual, target)
        if layer.stride == 2:
            convolve_strided(self.prepare(layer, 1), to_plane(source), to, symmetric=layer.symmetric, pool=self.pool)
            return to.moments
        before = to_prepared(layer.before, moments)
        if layer.kernel == 1:
            packed = self.prepare(layer, 1)
        else:
            points = self.choose_points(layer, size, target.end - target.first)
            packed = self.find_safe(layer, points, before, moments or self.measure(layer, source, target))
        if packed is None:
            self.direct.add(layer)
            return super().convolve(layer, source, target, moments, residual)
        if layer.kernel == 1:
            kernels.apply_linear(packed, to_plane(source, target), to, before=before, residual=added, pool=self.pool)
            return to.moments
        if packed.stored != layer.outputs:
            return self.convolve_padded(packed, layer, source, target, before, residual)
        kernels.convolve(packed, to_plane(source), to, before=before, residual=added, edge=layer.edge, pool=self.pool)
        return to.moments

    def stream(self, layer: Convolve, source: Rows, target: Rows, moments: Moments | None, residual: Rows | None) -> Moments | None:
        """A layer of few pixels: strips of it, and what would round too much, are torch's."""
        before = to_prepared(layer.before, moments)
        whole = len(source.pixels) == source.height and len(target.pixels) == target.height
        if not whole or self.is_risky(layer, 0, before, moments or self.measure(layer, source, target)):
            if whole:
                self.direct.add(layer)
            return super().convolve(layer, source, target, moments, residual)
        to, bias = to_plane(target), layer.bias
        image = Image(
            source=to_plane(source),
            target=to,
            bias=np.zeros(layer.outputs, np.float32) if bias is None else bias.detach().numpy(),
            before=before,
            residual=None if residual is None else to_plane(residual, target),
        )
        convolve_streamed(layer.weight.detach().numpy(), [image], lanes=self.choose_lanes(layer), enlarge=layer.enlarge, pool=self.pool)
        return to.moments

    def convolve_padded(
        self, packed: Packed, layer: Convolve, source: Rows, target: Rows, before: Prepared, residual: Rows | None
    ) -> Moments | None:
        """A layer whose channels are no whole vectors: made with more, in a buffer, and copied. No moments where something is added."""
        found = []
        for low in range(target.first, target.end, PADDED):
            high = min(low + PADDED, target.end)
            wide = torch.empty(high - low, target.pixels.shape[1], packed.stored)
            plane = to_plane(Rows(pixels=wide, height=target.height, first=low))
            kernels.convolve(packed, to_plane(source), plane, before=before, edge=layer.edge, pool=self.pool)
            made = wide[..., : layer.outputs]
            target.take(low, high).copy_(made if residual is None else made + residual.take(low, high))
            assert plane.moments is not None
            found.append(cut_channels(plane.moments, layer.outputs))
        return add_moments(*found) if residual is None else None

    def find_safe(self, layer: Convolve, points: int, before: Prepared, moments: Moments) -> Packed | None:
        """The layer prepared for so many points; for 6 where 8 could spoil it by rounding; None where those could too.

        What does that are outliers in its input, which the transforms spread over their neighbours, over fewer in small tiles.
        """
        for one in (8, 6) if points == 8 else (points,):
            if not self.is_risky(layer, one, before, moments):
                return self.prepare(layer, one)
        return None

    def is_risky(self, layer: Convolve, points: int, before: Prepared, moments: Moments) -> bool:
        if (layer, points) not in self.gains:
            packed = self.prepare(layer, points) if points else describe(layer.weight, self.choose_lanes(layer), enlarge=layer.enlarge)
            self.gains[layer, points] = measure_gain(packed, layer.weight, pool=self.pool)
        gain, reach = self.gains[layer, points], to_reach(moments, before, layer.weight.shape[1])
        return should_run_directly(gain, reach, ALLOWED * predict_spread(gain, moments, before))

    def measure(self, layer: Convolve, source: Rows, target: Rows) -> Moments:
        """Of the rows that are read: nobody has needed the moments of the whole."""
        if layer.before.channel is not None:  # every pixel is brought to one length, whatever it was
            channels = layer.weight.shape[1]
            return Moments(count=1, mean=np.zeros(channels), squares=np.zeros(channels))
        low, high = find_convolved(layer, target.first, target.end)
        return measure(source.take(max(0, low), min(source.height, high)))

    def prepare(self, layer: Convolve, points: int) -> Packed:
        found = self.packed.get(layer)
        if found is None or found.points != points:
            if found is not None:
                self.spares.append(self.packed.pop(layer).weights)
            into, lanes = self.take_spare(self.count_bytes(layer, points)), self.choose_lanes(layer)
            if layer.stride == 2:
                found = pack_strided(layer.weight, layer.bias, lanes=lanes, pool=self.pool, into=into)
            else:
                weight, bias = layer.weight, layer.bias
                found = pack_weights(weight, bias, lanes=lanes, pool=self.pool, enlarge=layer.enlarge, points=points, into=into)
            self.packed[layer] = found
        return found

    def take_spare(self, size: int) -> np.ndarray | None:
        """A buffer of the last pass with so many bytes or more; where none is large enough all are let go of, before there is a new one."""
        fitting = [index for index, one in enumerate(self.spares) if one.nbytes >= size]
        if not fitting:
            self.spares.clear()
            return None
        return self.spares.pop(min(fitting, key=lambda index: self.spares[index].nbytes))

    def end_pass(self, keep: bool) -> None:
        if not keep:
            self.spares = [one.weights for one in self.packed.values()]
            self.packed.clear()

    def end_run(self) -> None:
        self.spares.clear()


def to_plane(rows: Rows, like: Rows | None = None) -> Plane:
    """The same rows for a kernel; only those that `like` holds too."""
    if like is not None:
        rows = Rows(pixels=rows.take(like.first, like.end), height=rows.height, first=like.first)
    return Plane(pixels=rows.pixels.numpy(), height=rows.height, first_row=rows.first)


def to_prepared(before: Before, moments: Moments | None) -> Prepared:
    gamma = None if before.channel is None else before.channel.gamma.detach().flatten().numpy()
    return Prepared(affine=to_table(before, moments), gamma=gamma, silu=before.silu, relu=before.relu)


def describe(weight: Float[Tensor, "o i 3 3"], lanes: int, *, enlarge: bool) -> Packed:
    """What would be prepared of a layer, without the weights."""
    nothing, (outputs, channels, *_) = np.empty(0, np.float32), weight.shape
    points = F42.inputs if enlarge else F43.inputs
    return Packed(weights=nothing, bias=nothing, channels=channels, outputs=outputs, stored=outputs, points=points, lanes=lanes)


def cut_channels(moments: Moments, channels: int) -> Moments:
    peak = None if moments.peak is None else moments.peak[:channels]
    return Moments(count=moments.count, mean=moments.mean[:channels], squares=moments.squares[:channels], peak=peak)
