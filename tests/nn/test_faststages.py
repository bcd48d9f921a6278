"""A U-Net's stages with faster kernels are its plain loop, whatever its shape, its input, and what hangs on its modules."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("numba")

from eightfold.denoisers.unet import UNet
from eightfold.nn import streams
from eightfold.nn.attention import SpatialTransformer
from eightfold.nn.fast import FastKernels
from eightfold.nn.faststages import FastStages
from eightfold.nn.kernels.ready import find_lanes
from eightfold.nn.stages import Down, ResidualBlock, Stage, State, Up, join_skip, run_stages, save_skip
from eightfold.nn.streams import Streams
from eightfold.specs.network import UNetConfig
from weights import draw, randomise

TWO = UNetConfig(channels=4, out_channels=4, context=24, width=32, multipliers=(1, 2), blocks=1, attention=(1, 1), heads=2, groups=8)
CONFIGS = {
    "two": TWO,
    "two, linear, depth 2": replace(TWO, linear_projection=True, attention=(2, 1)),
    "three, no attention above": replace(TWO, multipliers=(1, 2, 2), attention=(0, 1, 1)),
    "narrow vectors": replace(TWO, width=24, heads=4, attention=(0, 1)),
    "a width that nothing fits": replace(TWO, width=20, heads=None, groups=4),
    "no middle": replace(TWO, middle=0),
}
SIZES = {"even": (2, 16, 8), "odd": (1, 9, 7), "uneven": (3, 11, 6), "one pixel": (1, 1, 1)}
M = TypeVar("M", bound=nn.Module)
FAST = FastStages(Streams(FastKernels(find_lanes(), 2)))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toys take the way of large networks."""
    monkeypatch.setattr(streams, "LEAST", 0)


@torch.no_grad()
def compare(stages: list[Stage], x: Tensor, state: State, fast: FastStages = FAST) -> float:
    """The largest difference, of the largest number."""
    expected = run_stages(stages, x, replace(state, skips=[]))
    found = fast.run(stages, x, replace(state, skips=[]))
    assert found.shape == expected.shape and found.is_contiguous()
    return float((found - expected).abs().max() / expected.abs().max())


def build(module: M, seed: int) -> M:
    """As it is loaded: nothing in it wants gradients."""
    return randomise(module, seed).requires_grad_(False)


def build_state(config: UNetConfig, batch: int, time: bool = True) -> State:
    return State(time=draw(batch, 4 * config.width, seed=2) if time else None, tokens=draw(batch, 5, config.context, seed=1))


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_networks_are_the_plain_loop(config: UNetConfig, size: tuple[int, int, int]) -> None:
    unet, x = build(UNet(config), 0), draw(size[0], config.channels, *size[1:])
    assert compare(unet.stages(), x, build_state(config, size[0])) < 2e-4


def count_fast(monkeypatch: pytest.MonkeyPatch, stages: list[Stage], x: Tensor, state: State) -> dict[str, int]:
    """How often each kernel is called."""
    calls = {"convolve_streamed": 0, "apply_rows": 0}
    for name in calls:
        real = getattr(streams, name)

        def count(*given: object, name: str = name, real=real, **named: object) -> object:
            calls[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(streams, name, count)
    FAST.run(stages, x, state)
    return calls


@torch.no_grad()
def test_all_that_fits_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would compare torch with itself."""
    unet = build(UNet(TWO), 0)
    blocks = [one for one in unet.modules() if isinstance(one, ResidualBlock)]
    ups, transformers = (sum(isinstance(one, kind) for one in unet.modules()) for kind in (Up, SpatialTransformer))
    calls = count_fast(monkeypatch, unet.stages(), draw(1, 4, 8, 8), build_state(TWO, 1))
    assert calls["convolve_streamed"] == 2 * len(blocks) + ups
    assert calls["apply_rows"] >= transformers * 8  # in, out, q and out twice, both of the feed-forward; keys of 24 channels may not fit


@torch.no_grad()
def test_halving_is_a_linear_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of patches; not where the border is on two sides only."""
    x = draw(2, 32, 7, 6)
    for symmetric, calls in ((True, 1), (False, 0)):
        down: list[Stage] = [build(Down(32, symmetric=symmetric), 0)]
        assert compare(down, x, State()) < 1e-5
        assert count_fast(monkeypatch, down, x, State())["apply_rows"] == calls


@torch.no_grad()
def test_small_layers_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    calls = count_fast(monkeypatch, build(UNet(TWO), 0).stages(), draw(1, 4, 8, 8), build_state(TWO, 1))
    assert not any(calls.values())


def test_without_time() -> None:
    block = build(ResidualBlock(16, 32, groups=4, eps=1e-5, embedding=24), 0)
    assert compare([block], draw(2, 16, 9, 5), State()) < 2e-4
    plain = build(ResidualBlock(32, 32, groups=4, eps=1e-5), 1)
    assert compare([plain], draw(2, 32, 9, 5), State(time=draw(2, 24))) < 2e-4


def test_each_picture_has_its_own_time() -> None:
    block = build(ResidualBlock(32, 32, groups=4, eps=1e-5, embedding=24), 0)
    x, time = draw(1, 32, 8, 8).expand(2, -1, -1, -1), draw(2, 24)
    found = FAST.run([block], x, State(time=time))
    assert (found[0] - found[1]).abs().max() > 0.1
    assert compare([block], x, State(time=time)) < 2e-4
    assert compare([block], x, State(time=time[:1])) < 2e-4


def test_a_skip_that_somebody_changed() -> None:
    def brighten(x: Tensor, state: State) -> Tensor:
        state.skips[-1] = state.skips[-1] + 1
        return x

    blocks = [build(ResidualBlock(*shape, groups=4, eps=1e-5), seed) for seed, shape in enumerate([(16, 16), (32, 16)])]
    assert compare([save_skip, blocks[0], brighten, join_skip, blocks[1]], draw(1, 16, 8, 8), State()) < 2e-4


@pytest.mark.parametrize("size", [(16, 12), (15, 12), (17, 11)])
def test_ways_up_that_do_not_double(size: tuple[int, int]) -> None:
    up = build(Up(32), 0)
    state = State(skips=[draw(1, 32, *size)])
    x = draw(1, 32, 8, 6)
    with torch.no_grad():
        expected = up(x, state)
        assert (FAST.run([up], x, state) - expected).abs().max() < 2e-5


@pytest.mark.parametrize("where", ["input", "weight", "gain"])
def test_numbers_that_stand_out(where: str) -> None:
    unet, x = build(UNet(TWO), 0), draw(1, 4, 16, 16)
    with torch.no_grad():
        for block in [one for one in unet.modules() if isinstance(one, ResidualBlock)][1::2]:
            if where == "weight":
                block.conv1.weight[3, 5, 1, 1] *= 100
            elif where == "gain":
                block.norm1.weight[7] *= 50
        if where == "input":
            x[0, 1, 3, 4] = 1e4
    assert compare(unet.stages(), x, build_state(TWO, 1), FastStages(Streams(FastKernels(find_lanes(), 1)))) < 2e-4


@pytest.mark.parametrize(("factor", "fast"), [(1.0, True), (1e6, False), (torch.inf, False)])
@torch.no_grad()
def test_risky_layers_are_torchs(factor: float, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pixel whose rounding errors the transforms would spread over its neighbours."""
    up, x = build(Up(32), 0), draw(1, 32, 8, 8)
    x[0, 3, 4, 4] *= factor
    expected = up(x, State())
    assert bool(count_fast(monkeypatch, [up], x, State())["convolve_streamed"]) is fast
    far = torch.ones(16, 16, dtype=torch.bool)
    far[7:11, 7:11] = False
    assert (FAST.run([up], x, State()) - expected)[..., far].abs().max() < 1e-4


@pytest.mark.parametrize("inside", ["conv1", "time_emb_proj", "norm2"])
def test_what_hangs_on_a_module_is_called(inside: str) -> None:
    block = build(ResidualBlock(32, 32, groups=4, eps=1e-5, embedding=24), 0)
    x, state = draw(1, 32, 8, 8), State(time=draw(1, 24))
    before = FAST.run([block], x, state)
    handle = block.get_submodule(inside).register_forward_hook(lambda module, given, made: made + made.roll(1, 1))
    assert compare([block], x, state) < 2e-5
    assert (FAST.run([block], x, state) - before).abs().max() > 0.01
    handle.remove()
    assert torch.equal(FAST.run([block], x, state), before)


def test_hooks_in_a_transformer_are_called() -> None:
    stage = build(SpatialTransformer(32, blocks=1, heads=2, context=24, groups=8, linear=False), 0)
    x, state = draw(1, 32, 8, 8), State(tokens=draw(1, 5, 24))
    calls: list[nn.Module] = []
    stage.transformer_blocks[0].get_submodule("attn1.to_q").register_forward_hook(lambda module, given, made: calls.append(module))
    FAST.run([stage], x, state)
    assert len(calls) == 1
    with pytest.raises(ValueError, match="needs tokens"):
        FAST.run([stage], x, State())


def test_gradients_and_other_types_take_the_plain_loop() -> None:
    block = build(ResidualBlock(32, 32, groups=4, eps=1e-5), 0).requires_grad_()
    x = draw(1, 32, 8, 8)
    FAST.run([block], x).sum().backward()
    assert block.conv1.weight.grad is not None
    block.requires_grad_(False)
    assert FAST.run([block], x.requires_grad_()).requires_grad
    double = block.double()
    assert torch.equal(FAST.run([double], x.detach().double()), run_stages([double], x.detach().double()))


def test_what_it_is_given_stays_as_it_was() -> None:
    """Blocks write over memory of their own only, also where a skip is the same memory."""
    blocks = [build(ResidualBlock(*shape, groups=4, eps=1e-5), seed) for seed, shape in enumerate([(32, 32), (32, 64), (96, 32)])]
    transformer = build(SpatialTransformer(32, blocks=1, heads=2, context=24, groups=8, linear=True), 3)
    x, state = draw(1, 32, 8, 8).contiguous(memory_format=torch.channels_last), State(tokens=draw(1, 5, 24))
    kept = x.clone()
    assert compare([save_skip, transformer, blocks[0], save_skip, blocks[1], join_skip, blocks[2], join_skip], x, state) < 2e-4
    assert torch.equal(x, kept)
