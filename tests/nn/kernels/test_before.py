"""What comes before a layer: both norms, both activations, alone and together; and what lies around an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

pytest.importorskip("numba")

from eightfold.nn.channelnorm import ChannelNorm, ChannelNormSiLU
from eightfold.nn.frames import EdgeConvolution
from eightfold.nn.kernels.before import Before
from eightfold.nn.kernels.direct import activate_directly, convolve_directly
from eightfold.nn.kernels.layers import apply_linear, convolve
from eightfold.nn.kernels.moments import measure_moments, to_affine
from eightfold.nn.kernels.packed import pack_weights
from eightfold.nn.kernels.plane import Plane, build_plane, from_plane, to_planes
from eightfold.nn.kernels.pool import Pool
from eightfold.nn.kernels.ready import find_lanes

POOL = Pool(2)
WIDTHS = [lanes for lanes in (8, 16) if lanes <= max(8, find_lanes())]
SIDES = st.integers(1, 19)
ALLOWED = 3e-5  # of the largest exact result


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build_before(norm, follows, plane):
    random, channels = np.random.default_rng(1), plane.channels
    weight = random.uniform(0.5, 2, channels)
    affine = to_affine(measure_moments(plane.pixels), 2, weight, random.standard_normal(channels), 1e-6) if norm == "group" else None
    gamma = weight.astype(np.float32) if norm == "channel" else None
    return Before(affine=affine, gamma=gamma, silu=follows == "silu", relu=follows == "relu")


def compare(ours, exact, outputs):
    assert np.abs(ours.pixels[..., :outputs] - exact.pixels).max() <= ALLOWED * max(1, np.abs(exact.pixels).max())


@settings(max_examples=80)
@given(
    lanes=st.sampled_from(WIDTHS),
    widths=st.tuples(st.integers(1, 6), st.integers(1, 40)),
    sides=st.tuples(SIDES, SIDES),
    norm=st.sampled_from(["none", "group", "channel"]),
    follows=st.sampled_from(["nothing", "silu", "relu"]),
    around=st.sampled_from(["zeros", "repeat", "enlarge"]),
)
def test_a_convolution_of_what_was_done_before(lanes, widths, sides, norm, follows, around):
    channels, outputs = widths[0] * lanes, widths[1]
    norm = "none" if sides == (1, 1) and norm == "group" else norm
    plane = to_planes(draw(1, channels, *sides) * 2 + 1)[0]
    weight, bias = draw(outputs, channels, 3, 3, seed=1) / (3 * channels**0.5), draw(outputs, seed=2)
    before, enlarge, edge = build_before(norm, follows, plane), around == "enlarge", "repeat" if around == "repeat" else "zeros"
    packed = pack_weights(weight, bias.numpy(), lanes=lanes, pool=POOL, enlarge=enlarge)
    ours = convolve(packed, plane, before=before, edge=edge, pool=POOL)
    compare(ours, convolve_directly(weight.double(), bias.double(), plane, before=before, enlarge=enlarge, edge=edge), outputs)


@pytest.mark.parametrize("norm", ["none", "group", "channel"])
@pytest.mark.parametrize("follows", ["nothing", "silu", "relu"])
def test_the_direct_way_is_torchs_own(norm, follows):
    x = draw(1, 16, 5, 7) + 1
    before = build_before(norm, follows, to_planes(x)[0])
    kept, expected = x.clone(), x
    if norm == "group":
        random = np.random.default_rng(1)
        weight, bias = (torch.from_numpy(numbers).float() for numbers in (random.uniform(0.5, 2, 16), random.standard_normal(16)))
        expected = F.group_norm(x, 2, weight, bias, 1e-6)
    if norm == "channel":
        module = ChannelNorm(16)
        module.gamma.data = torch.from_numpy(before.gamma).view(-1, 1, 1)
        expected = module(x)
    expected = {"nothing": lambda y: y, "silu": F.silu, "relu": F.relu}[follows](expected)
    assert torch.allclose(activate_directly(x, before), expected, atol=1e-5)
    assert torch.equal(x, kept), "the input stays as it is"


@torch.no_grad()
@pytest.mark.parametrize("channels", [8, 24, 32, 40, 64, 104])
def test_channel_norm_as_a_network_has_it(channels):
    """Every way in which a width is made of the 32 and the 4 numbers that squares are summed in at once."""
    norm, convolution, x = ChannelNormSiLU(channels), EdgeConvolution(channels, 8), draw(1, channels, 9, 6)
    norm.gamma.data = draw(channels, 1, 1, seed=1)
    x[0, :, 2, 3] = 0  # a pixel of length 0 stays 0
    x[0, :, 4, 4] *= 1e-20
    expected = convolution(norm(x))
    before = Before(gamma=norm.gamma.detach().numpy().ravel(), silu=True)
    weight, bias = convolution.conv.weight.numpy(), convolution.conv.bias.numpy()
    packed = pack_weights(weight, bias, lanes=8, pool=POOL)
    found = from_plane(convolve(packed, to_planes(x)[0], before=before, edge="repeat", pool=POOL), 8)
    assert torch.allclose(found, expected, atol=ALLOWED)


def test_what_is_not_a_number_stays_so_through_channel_norm_and_relu():
    x = draw(1, 16, 12, 12)
    x[0, 3, 5, 5] = torch.nan
    packed = pack_weights(np.ones((16, 16, 3, 3)), None, lanes=8, pool=POOL)
    for before in (Before(gamma=np.ones(16, np.float32)), Before(gamma=np.ones(16, np.float32), relu=True), Before(relu=True)):
        ours = convolve(packed, to_planes(x)[0], before=before, pool=POOL)
        assert np.isnan(ours.pixels[4:7, 4:7]).all()
        assert np.isfinite(ours.pixels[9:]).all()


@pytest.mark.parametrize("edge", ["zeros", "repeat"])
@pytest.mark.parametrize("norm", ["group", "channel"])
def test_strips_are_the_whole_bit_for_bit(edge, norm):
    """A strip reads its real neighbours; only at the ends of the picture is an edge repeated."""
    plane = to_planes(draw(1, 16, 40, 19))[0]
    packed = pack_weights(draw(16, 16, 3, 3, seed=1), None, lanes=8, pool=POOL)
    before = build_before(norm, "silu", plane)
    whole = convolve(packed, plane, before=before, edge=edge, pool=POOL)
    for begin, end in ((0, 16), (16, 24), (24, 40)):
        first, last = max(0, begin - 1), min(40, end + 1)
        strip = Plane(pixels=plane.pixels[first:last].copy(), height=40, first_row=first)
        part = convolve(packed, strip, build_plane(40, 19, 16, (begin, end)), before=before, edge=edge, pool=POOL)
        assert np.array_equal(part.pixels, whole.pixels[begin:end])


@pytest.mark.parametrize("norm", ["none", "channel"])
def test_pixels_do_not_depend_on_threads_or_vectors(norm):
    plane, weight = to_planes(draw(1, 96, 21, 30))[0], draw(32, 96, 3, 3, seed=1)
    before = build_before(norm, "relu", plane)
    found = []
    for lanes, threads in ((8, 1), (8, 5), (WIDTHS[-1], 2)):
        pool = Pool(threads)
        packed = pack_weights(weight, None, lanes=lanes, pool=pool)
        point = pack_weights(weight[..., 1:2, 1:2], None, lanes=lanes, pool=pool)
        found.append((convolve(packed, plane, before=before, pool=pool), apply_linear(point, plane, before=before, pool=pool)))
    for others in found[1:]:
        assert all(np.array_equal(other.pixels, first.pixels) for other, first in zip(others, found[0], strict=True))


@pytest.mark.parametrize(
    "fields",
    [{"silu": True, "relu": True}, {"affine": np.zeros(24, np.float32), "gamma": np.zeros(8, np.float32)}],
    ids=["activations", "norms"],
)
def test_one_of_each_kind_at_most(fields):
    with pytest.raises(ValueError, match="one normalisation and one activation"):
        Before(**fields)


@pytest.mark.parametrize("fields", [{"gamma": np.zeros(24, np.float32)}, {"affine": np.zeros(16, np.float32)}], ids=["gamma", "affine"])
def test_a_norm_of_another_width_is_refused(fields):
    plane, before = to_planes(draw(1, 16, 6, 6))[0], Before(**fields)
    for size, layer in ((3, convolve), (1, apply_linear)):
        packed = pack_weights(np.zeros((16, 16, size, size)), None, lanes=8, pool=POOL)
        with pytest.raises(ValueError, match="what normalises the input"):
            layer(packed, plane, before=before, pool=POOL)


def test_only_a_plain_convolution_repeats_the_edge():
    plane, weight = to_planes(draw(1, 16, 6, 6))[0], draw(16, 16, 3, 3)
    packed = pack_weights(weight, None, lanes=8, pool=POOL, enlarge=True)
    with pytest.raises(ValueError, match="a border cannot be 'repeat'"):
        convolve(packed, plane, edge="repeat", pool=POOL)
    for plain in ({"enlarge": True}, {"stride": 2}):
        with pytest.raises(ValueError, match="a border cannot be 'repeat'"):
            convolve_directly(weight, None, plane, edge="repeat", **plain)
    with pytest.raises((ValueError, TypeError), match="mirror"):
        convolve(replace(packed, points=6), plane, edge="mirror", pool=POOL)
