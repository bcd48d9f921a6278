"""Packed weights: the transforms of exact fractions, of any float type, in as much memory as was said."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from eightfold.nn.kernels.before import Before
from eightfold.nn.kernels.cooktoom import BY_INPUTS, F42
from eightfold.nn.kernels.geometry import count_tiles
from eightfold.nn.kernels.layers import apply_linear, convolve, count_scratch
from eightfold.nn.kernels.packed import count_numbers, pack_weights
from eightfold.nn.kernels.plane import build_plane, to_planes
from eightfold.nn.kernels.pool import Pool

POOL = Pool(2)


def fold(weight, odd):
    """Three taps along the last axis between pixels that are repeated: two."""
    first, middle, last = np.moveaxis(weight, -1, 0)
    return np.stack([first + middle, last] if odd else [first, middle + last], -1)


def transform(weight, kernel):
    matrix = np.array([[float(entry) for entry in row] for row in kernel])
    return matrix @ weight @ matrix.T


def unpack(packed):
    """[phase, out, in, point, point]"""
    wide, size = 2 * packed.lanes, packed.points
    numbers = packed.weights.reshape(size, size, packed.phases, packed.stored // wide, packed.channels, wide)
    return numbers.transpose(2, 3, 5, 4, 0, 1).reshape(packed.phases, packed.stored, packed.channels, size, size)


@settings(max_examples=30)
@given(
    lanes=st.sampled_from([4, 8, 16]),
    blocks=st.integers(1, 3),
    outputs=st.integers(1, 70),
    kind=st.sampled_from(["3x3", "enlarge", "1x1"]),
    points=st.sampled_from([6, 8]),
)
def test_packed_weights_are_the_exact_transforms_rounded_once(lanes, blocks, outputs, kind, points):
    side = 1 if kind == "1x1" else 3
    weight = np.random.default_rng(0).standard_normal((outputs, blocks * lanes, side, side)).astype(np.float32)
    packed = pack_weights(weight, None, lanes=lanes, pool=POOL, enlarge=kind == "enlarge", points=points)
    assert packed.weights.size == count_numbers(blocks * lanes, outputs, lanes, kernel=side, enlarge=kind == "enlarge", points=points)
    exact = weight.astype(np.float64)
    if kind == "enlarge":
        rows = [fold(exact.swapaxes(2, 3), odd).swapaxes(2, 3) for odd in (False, True)]
        exact = np.stack([transform(fold(row, odd), F42.kernel) for row in rows for odd in (False, True)])
    else:
        exact = transform(exact, BY_INPUTS[points].kernel)[None] if kind == "3x3" else exact[None]
    found = unpack(packed)
    np.testing.assert_array_max_ulp(found[:, :outputs], exact.astype(np.float32), maxulp=1)
    assert not found[:, outputs:].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("side", [1, 3])
def test_other_types_are_packed_as_their_numbers(dtype, side):
    weight = torch.randn(20, 16, side, side).to(dtype)
    exact = pack_weights(weight.float(), None, lanes=8, pool=POOL)
    assert np.array_equal(pack_weights(weight, None, lanes=8, pool=POOL).weights, exact.weights)
    if dtype != torch.bfloat16:
        assert np.array_equal(pack_weights(weight.numpy(), None, lanes=8, pool=POOL).weights, exact.weights)


def test_weights_may_lie_anyhow_and_be_kept_from_writing():
    weight = torch.randn(3, 3, 16, 20)
    turned = weight.permute(3, 2, 0, 1)
    frozen = turned.contiguous().numpy()
    frozen.flags.writeable = False
    exact = pack_weights(turned.contiguous(), None, lanes=8, pool=POOL).weights
    assert np.array_equal(pack_weights(turned, None, lanes=8, pool=POOL).weights, exact)
    assert np.array_equal(pack_weights(frozen, None, lanes=8, pool=POOL).weights, exact)
    assert np.array_equal(pack_weights(torch.nn.Parameter(turned), None, lanes=8, pool=POOL).weights, exact)


@pytest.mark.parametrize("enlarge", [False, True])
def test_packing_takes_a_panel_beside_the_result(enlarge):
    weight = np.random.default_rng(0).standard_normal((512, 64, 3, 3)).astype(np.float32)
    used = np.empty(count_numbers(64, 512, 8, enlarge=enlarge), np.float32)
    pack_weights(weight, None, lanes=8, pool=POOL, enlarge=enlarge, into=used)
    tracemalloc.start()
    pack_weights(weight, None, lanes=8, pool=POOL, enlarge=enlarge, into=used)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < weight.nbytes / 2


@settings(max_examples=40)
@given(
    channels=st.sampled_from([8, 24, 64, 256]),
    outputs=st.sampled_from([3, 24, 136, 264]),
    sides=st.tuples(st.integers(1, 45), st.integers(1, 45)),
    kind=st.sampled_from(["3x3", "enlarge", "1x1"]),
    threads=st.integers(1, 3),
    gamma=st.booleans(),
    points=st.sampled_from([6, 8]),
)
def test_scratch_is_what_was_counted(channels, outputs, sides, kind, threads, gamma, points):
    pool, side, scale = Pool(threads), 1 if kind == "1x1" else 3, 2 if kind == "enlarge" else 1
    weight, plane = np.zeros((outputs, channels, side, side), np.float32), to_planes(torch.zeros(1, channels, *sides))[0]
    packed = pack_weights(weight, None, lanes=8, pool=pool, enlarge=kind == "enlarge", points=points)
    before = Before(gamma=np.ones(channels, np.float32)) if gamma else Before(relu=True)
    if kind == "1x1":
        added = build_plane(*sides, packed.stored)
        apply_linear(packed, plane, added, before=before, residual=added, pool=pool)
    else:
        convolve(packed, plane, before=before, pool=pool)
    tiles = count_tiles((0, scale * sides[0]), sides[1], packed.points)
    taken = [sum(buffer.size for buffer in scratch.buffers.values()) for scratch in pool.scratches]
    assert max(taken) == count_scratch(channels, packed.stored, packed.points, tiles, threads)


@pytest.mark.parametrize(
    ("rows", "points", "down"),
    [
        ((0, 40), 6, 10),
        ((8, 17), 6, 3),
        ((5, 6), 6, 1),
        ((0, 40), 8, 7),
        ((12, 24), 8, 2),
        ((8, 17), 8, 2),
        ((16, 24), 5, 2),
        ((0, 1), 5, 1),
    ],
)
def test_a_strip_is_counted_by_its_own_tiles(rows, points, down):
    across = 5 if points == 8 else 8
    assert count_tiles(rows, 30, points) == (down, across)
    plane, pool = to_planes(torch.zeros(1, 8, 40, 30))[0], Pool(1)
    packed = pack_weights(np.zeros((8, 8, 3, 3)), None, lanes=8, pool=pool, enlarge=points == 5, points=max(6, points))
    scale = 2 if points == 5 else 1
    convolve(packed, plane, build_plane(40 * scale, 30 * scale, packed.stored, rows), pool=pool)
    assert sum(buffer.size for buffer in pool.scratches[0].buffers.values()) == count_scratch(8, packed.stored, points, (down, across), 1)
