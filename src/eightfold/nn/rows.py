"""The layers of a graph in plain torch, on rows [h, w, c]: the reference for the fast kernels, and what runs where those cannot.

Everything is made in chunks of rows, so that what torch takes meanwhile stays small whatever the size of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from .channelnorm import SMALLEST
from .graph import Apply, Before, Convolve, find_convolved
from .kernels.moments import Moments, add_moments, measure_moments, to_affine

CHUNK = 1 << 24  # bytes of the wider of a layer's input and output that are worked on at once
MEASURED = 1 << 20  # numbers that a thread measures at once
QUERIES = 4096  # pixels that ask at once


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of one feature map."""

    height: int
    width: int
    channels: int
    dtype: torch.dtype

    @property
    def row_bytes(self) -> int:
        return self.width * self.channels * self.dtype.itemsize

    @property
    def bytes(self) -> int:
        return self.height * self.row_bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of a feature map of `height` rows, from row `first` on."""

    pixels: Tensor
    height: int
    first: int = 0

    def take(self, begin: int, end: int) -> Tensor:
        return self.pixels[begin - self.first : end - self.first]

    @property
    def end(self) -> int:
        return self.first + len(self.pixels)


def cut_rows(begin: int, end: int, row_bytes: int, step: int = 1) -> Iterator[tuple[int, int]]:
    """Chunks of rows, a multiple of `step` each."""
    count = max(step, CHUNK // row_bytes // step * step)
    for low in range(begin, end, count):
        yield low, min(low + count, end)


def normalise(x: Tensor, before: Before, table: np.ndarray | None) -> Tensor:
    """Rows [h, w, c] after `before`; `table`: see `to_table`."""
    dtype = x.dtype
    if table is not None:
        centre, scale, offset = torch.from_numpy(table).to(x.device).view(3, -1)  # float32, so that the rest is too
        x = torch.addcmul(offset, x - centre, scale)
    elif before.channel is not None:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        factor = (x.shape[-1] ** 0.5 / length.clamp_min(SMALLEST)).to(x.dtype)
        x = x * factor * before.channel.gamma.detach().flatten()
    x = F.silu(x) if before.silu else F.relu(x) if before.relu else x
    return x.to(dtype)


def to_table(before: Before, moments: Moments | None) -> np.ndarray | None:
    """Centre, scale and offset of a group normalisation, float32 [3 * c]."""
    norm = before.group
    if norm is None:
        return None
    assert moments is not None, "the moments of a normalised feature map are measured before it is read"
    weight, bias = (one.detach().double().cpu().numpy() for one in (norm.weight, norm.bias))
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found in the result
        return to_affine(moments, norm.num_groups, weight, bias, norm.eps)


def measure(rows: Tensor) -> Moments:
    """The moments of rows [h, w, c]; many of them by several threads."""
    if rows.device.type == "cpu" and rows.dtype == torch.float32:
        parts = rows.numel() // MEASURED + 1
        if parts == 1:
            return measure_moments(rows.numpy())
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return add_moments(*pool.map(measure_moments, (part.numpy() for part in rows.flatten(0, 1).tensor_split(parts))))
    variance, mean = torch.var_mean(rows.flatten(0, 1).float(), dim=0, correction=0)
    count = rows.shape[0] * rows.shape[1]
    return Moments(count=count, mean=mean.double().cpu().numpy(), squares=(variance.double() * count).cpu().numpy())


def convolve(layer: Convolve, source: Rows, target: Rows, *, table: np.ndarray | None, residual: Rows | None) -> None:
    """Write the rows that `target` holds. `residual` may be the target itself."""
    begin, end = target.first, target.end
    width = max(source.pixels[0].numel() * (4 if layer.enlarge else 1), target.pixels[0].numel())
    for low, high in cut_rows(begin, end, width * target.pixels.itemsize, 2 if layer.enlarge else 1):
        made = convolve_chunk(layer, source, low, high, target.height, table)
        into = target.take(low, high)
        if residual is None:
            into.copy_(made)
        else:
            torch.add(made, residual.take(low, high), out=into)


def convolve_chunk(layer: Convolve, source: Rows, begin: int, end: int, height: int, table: np.ndarray | None) -> Tensor:
    """Rows from `begin` up to `end` of the result, [h, w, c]."""
    if layer.kernel == 1:
        x = normalise(source.take(begin, end), layer.before, table)
        return F.linear(x, layer.weight[:, :, 0, 0], layer.bias)
    low, high = (begin - 1, end + 1) if layer.enlarge else find_convolved(layer, begin, end)
    x, above, below = enlarge(source, low, high) if layer.enlarge else take_inside(source, low, high)
    x = rearrange(normalise(x, layer.before, table), "h w c -> 1 c h w")
    sides = (1, 1) if layer.stride == 1 or layer.symmetric else (0, 1)
    padding = (0, 0)
    if layer.edge == "repeat":
        x = F.pad(x, (*sides, above, below), mode="replicate")
    elif sides == (1, 1) and above == below:  # which costs no copy
        padding = (above, 1)
    else:
        x = F.pad(x, (*sides, above, below))
    return rearrange(F.conv2d(x, layer.weight, layer.bias, stride=layer.stride, padding=padding), "1 c h w -> h w c")


def take_inside(source: Rows, low: int, high: int) -> tuple[Tensor, int, int]:
    """The rows from `low` up to `high`, and how many of these lie above and below the picture."""
    above, below = max(0, -low), max(0, high - source.height)
    return source.take(low + above, high - below), above, below


def enlarge(source: Rows, low: int, high: int) -> tuple[Tensor, int, int]:
    """The same of the picture with every pixel repeated twice each way."""
    above, below = max(0, -low), max(0, high - 2 * source.height)
    low, high = low + above, high - below
    rows = source.take(low // 2, -(-high // 2)).repeat_interleave(2, 0).repeat_interleave(2, 1)
    return rows[low % 2 : low % 2 + high - low], above, below


def attend(q: Rows, k: Rows, v: Rows, target: Rows) -> None:
    """Every pixel of the rows of `target` asks all pixels; a number of them at a time."""
    keys, values = (rearrange(one.pixels, "h w c -> 1 1 (h w) c") for one in (k, v))
    asking = q.take(target.first, target.end).flatten(0, 1)
    into = target.pixels.flatten(0, 1)
    for begin in range(0, len(asking), QUERIES):
        some = asking[begin : begin + QUERIES]
        into[begin : begin + QUERIES].copy_(F.scaled_dot_product_attention(some[None, None], keys, values)[0, 0])


def apply(layer: Apply, sources: list[Rows], target: Rows) -> None:
    """A function of rows that looks at no neighbours, however much it packs or unpacks."""
    for low, high in cut_rows(target.first, target.end, target.pixels[0].numel() * target.pixels.itemsize, 2):
        taken = [one.take(low * one.height // target.height, -(-high * one.height // target.height)) for one in sources]
        target.take(low, high).copy_(layer.function(*taken))
