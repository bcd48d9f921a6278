"""With the fast kernels networks give what torch gives, whatever the plan, and where numbers stand out too."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

from eightfold.autoencoders.staged import StagedAutoencoder
from eightfold.codec.lower import lower
from eightfold.codec.plan import Choice
from eightfold.codec.schedule import Frame, Place
from eightfold.nn import fast
from eightfold.nn.fast import FastKernels
from eightfold.nn.graph import Convolve
from eightfold.nn.kernels import geometry
from eightfold.nn.kernels.ready import find_lanes
from eightfold.nn.rows import Size
from eightfold.nn.stages import Convolution, run_stages
from toyruns import (
    CASES,
    Task,
    build_frame,
    build_graph,
    build_network,
    build_planner,
    draw_choice,
    draw_input,
    poison,
    run_plan,
    to_stages,
)
from weights import draw, randomise

LANES = sorted({4, 8, find_lanes()})
KERNELS = {lanes: FastKernels(lanes, 1) for lanes in LANES}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toys take the way of large pictures."""
    monkeypatch.setattr(fast, "FEWEST", 1)
    monkeypatch.setattr(fast, "NARROWEST", 8)


@pytest.fixture
def large_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As layers of many channels and pixels have them."""
    monkeypatch.setattr(geometry, "WIDE", 8)
    monkeypatch.setattr(geometry, "MANY", 1)


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As layers of few pixels have them."""
    monkeypatch.setattr(fast, "FEWEST", 10**9)
    monkeypatch.setattr(fast, "LEAST", 0)


def draw_strips(frame: Frame, seed: int) -> Choice:
    """Few nodes are made again: a call of a kernel takes longer here than its work."""
    return replace(draw_choice(frame, seed, passing=0.05), strip=16)


def run_fast(network: StagedAutoencoder, task: Task, x: Tensor, kernels: FastKernels, folder: Path, seed: int | None = None) -> Tensor:
    """By a plan drawn at random, or with everything in memory."""
    frame = build_frame(lower(to_stages(network, task), x.shape[1]), x)
    planner = build_planner(frame, kernels)
    return run_plan(planner, planner.plan(None) if seed is None else planner.measure(draw_strips(frame, seed)), x, folder)


@torch.no_grad()
def compare(found: Tensor, network: StagedAutoencoder, task: Task, x: Tensor) -> tuple[float, float]:
    """The largest difference from torch relative to the largest output, and decibels of the root mean square of all."""
    expected = run_stages(to_stages(network, task), x)
    largest = float(expected.abs().max())
    error = (found - expected).double()
    return float(error.abs().max()) / largest, 20 * math.log10(largest / max(float(error.square().mean().sqrt()), 1e-30))


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize(("name", "task"), CASES)
def test_networks_are_those_of_torch(name: str, task: Task, lanes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch)
    network = build_network(name)
    for seed, cells in ((None, (2, 2)), (lanes, (4, 2))):
        x = draw_input(name, task, *cells)
        largest, decibels = compare(run_fast(network, task, x, KERNELS[lanes], tmp_path, seed), network, task, x)
        assert largest < 5e-5 and decibels > 100


@pytest.mark.parametrize(("name", "task"), CASES)
def test_most_work_is_fast(name: str, task: Task) -> None:
    """Else the test above would compare torch with itself."""
    x = draw_input(name, task, 3, 2)
    frame = build_frame(build_graph(name, task), x)
    pairs = zip(frame.graph.nodes, frame.sizes, strict=True)
    layers = [(node.layer, size) for node, size in pairs if isinstance(node.layer, Convolve) and node.layer.stride == 1]
    inner = [KERNELS[8].is_fast(layer, size) for layer, size in layers if layer.weight.shape[1] % 8 == 0 and layer.kernel == 3]
    assert len(inner) >= 5 and all(inner)
    kernels = FastKernels(8, 1)
    run_fast(build_network(name), task, x, kernels, Path("nowhere"))
    assert len(kernels.packed) >= len(inner) and len(kernels.direct) <= len(inner) // 3


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize(("name", "task"), CASES)
@pytest.mark.usefixtures("streamed")
def test_streamed_weights(name: str, task: Task, lanes: int, tmp_path: Path) -> None:
    """Whole maps; in strips such layers are torch's, and the rest of the network still fits to them."""
    network, kernels = build_network(name), FastKernels(lanes, 1)
    for seed, cells in ((None, (2, 2)), (lanes, (4, 2))):
        x = draw_input(name, task, *cells)
        largest, decibels = compare(run_fast(network, task, x, kernels, tmp_path, seed), network, task, x)
        assert largest < 5e-5 and decibels > 100
    frame = build_frame(build_graph(name, task), x)
    layers = [(node.layer, size) for node, size in zip(frame.graph.nodes, frame.sizes, strict=True) if isinstance(node.layer, Convolve)]
    fitting = sum(kernels.is_streamed(*pair) for pair in layers)
    normed = any(layer.before.channel is not None for layer, _ in layers)
    assert fitting >= 4 or normed or lanes != 4  # some toys are too narrow for wider vectors
    assert sum(points == 0 for _, points in kernels.gains) >= fitting


@torch.no_grad()
def plant(network: StagedAutoencoder, where: str) -> StagedAutoencoder:
    """One weight, or the gain of one channel of a norm, that stands out: in the first third of the layers, and in the middle one."""
    network = deepcopy(network)
    endings = ("weight",) if where == "weight" else ("norm1.weight", "norm2.weight", "norm.weight", "norm1.gamma", "norm2.gamma", "gamma")
    dims = (4,) if where == "weight" else (1, 3)
    found = [one for name, one in network.named_parameters() if name.endswith(endings) and one.ndim in dims and one.numel() > 4]
    for one in (found[len(found) // 3], found[len(found) // 2], found[-2 if len(found) > 1 else -1]):
        flat = one.view(-1)
        flat[len(flat) // 2] *= 100 if where == "weight" else 50
    return network


@pytest.mark.parametrize("where", ["input", "weight", "gain"])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_numbers_that_stand_out(name: str, task: Task, where: str, tmp_path: Path) -> None:
    if where == "gain" and name.startswith("tiny"):
        pytest.skip("it has no norms")
    network, x = build_network(name), draw_input(name, task, 3, 3)
    if where == "input":
        x[0, :, x.shape[2] // 2, x.shape[3] // 3] *= 300
        x[0, 0, 0, 0] = -200
    else:
        network = plant(network, where)
    largest, decibels = compare(run_fast(network, task, x, KERNELS[LANES[-1]], tmp_path, seed=5), network, task, x)
    assert largest < 2e-4 and decibels > 100


@pytest.mark.parametrize(("name", "cells"), [("flux2", (34, 34)), ("qwen", (34, 34))])
def test_a_convolution_of_1x1_behind_the_last_one(
    name: str, cells: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large enough for the fast kernels by their own measure: it may not be written over what it reads."""
    monkeypatch.undo()
    x = draw_input(name, "encode", *cells)
    largest, _ = compare(run_fast(build_network(name), "encode", x, KERNELS[LANES[-1]], tmp_path), build_network(name), "encode", x)
    assert largest < 5e-5


@pytest.mark.parametrize(("factor", "directly"), [(1.0, False), (1e5, True), (math.inf, True)])
def test_risky_layers_are_run_directly(factor: float, directly: bool, tmp_path: Path) -> None:
    """One pixel whose rounding errors the transforms would spread over its neighbours."""
    x, layer, kernels = draw(1, 8, 40, 40), randomise(Convolution(8, 16), 1), FastKernels(8, 1)
    x[0, 3, 20, 20] *= factor
    frame = build_frame(lower([layer], 8), x)
    planner = build_planner(frame, kernels)
    found, expected = run_plan(planner, planner.plan(None), x, tmp_path), layer(x).detach()
    assert bool(kernels.direct) is directly
    far = torch.ones(40, 40, dtype=torch.bool)
    far[19:22, 19:22] = False
    assert (found - expected)[..., far].abs().max() < 1e-5


@pytest.mark.parametrize(("factor", "points"), [(1.0, {8}), (1000.0, {6}), (1e5, set())])
def test_large_tiles_give_way_to_small_ones_before_torch(
    factor: float, points: set[int], large_tiles: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found of an earlier picture decides nothing for a later one."""
    monkeypatch.setattr(fast, "ALLOWED", 2e-3)
    layer, kernels = randomise(Convolution(16, 16), 1), FastKernels(8, 1)
    for one, expected in ((factor, points), (1.0, {8}), (factor, points)):
        x = draw(1, 16, 40, 40)
        x[0, 3, 20, 20] *= one
        planner = build_planner(build_frame(lower([layer], 16), x), kernels)
        kernels.packed.clear()
        kernels.direct.clear()
        run_plan(planner, planner.measure(Choice(places={0: Place.MEMORY, 1: Place.MEMORY}, keeps_weights=True)), x, tmp_path)
        assert (set() if kernels.direct else {packed.points for packed in kernels.packed.values()}) == expected


@pytest.mark.parametrize(("name", "task"), CASES[::3])
def test_large_tiles_in_any_strips(name: str, task: Task, large_tiles: None, tmp_path: Path) -> None:
    network, x = build_network(name), draw_input(name, task, 5, 3)
    kernels = FastKernels(LANES[-1], 1)
    for seed in range(2):
        largest, decibels = compare(run_fast(network, task, x, kernels, tmp_path, seed), network, task, x)
        assert largest < 1e-4 and decibels > 100
    assert any(points == 8 for _, points in kernels.gains)


@pytest.mark.parametrize("keeps", [True, False])
def test_prepared_weights(keeps: bool, tmp_path: Path) -> None:
    """Kept for the next run, or given back pass by pass, and as large as was said."""
    kernels, x = FastKernels(8, 1), draw_input("flux2", "decode", 3, 4)
    frame = build_frame(build_graph("flux2", "decode"), x)
    planner = build_planner(frame, kernels)
    plan = planner.measure(Choice(places=dict.fromkeys(range(len(frame.sizes)), Place.MEMORY), keeps_weights=keeps))
    first = run_plan(planner, plan, x, tmp_path)
    assert bool(kernels.packed) is keeps
    sizes = {node.layer: size for node, size in zip(frame.graph.nodes, frame.sizes, strict=True)}
    for layer, packed in kernels.packed.items():
        assert packed.weights.nbytes == kernels.count_weights(layer, sizes[layer], sizes[layer].height)
    held = {layer: packed.weights for layer, packed in kernels.packed.items()}
    assert torch.equal(run_plan(planner, plan, x, tmp_path), first)
    assert all(kernels.packed[layer].weights is weights for layer, weights in held.items())
    assert kernels.count_held() >= sum(weights.nbytes for weights in held.values())


def test_which_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    kernels = FastKernels(8, 1)

    def ask(shape: tuple[int, int, int], side: int = 64, **how: object) -> bool:
        outputs, channels, kernel = shape
        layer = Convolve(weight=torch.zeros(outputs, channels, kernel, kernel), bias=None, **how)  # type: ignore[arg-type]
        return kernels.is_fast(layer, Size(height=side, width=side, channels=outputs, dtype=torch.float32))

    assert ask((64, 64, 3)) and ask((64, 64, 1)) and ask((3, 64, 3)) and ask((64, 64, 3), enlarge=True) and ask((64, 64, 3), edge="repeat")
    assert (
        not ask((64, 4, 3))
        and ask((64, 64, 3), stride=2)
        and not ask((64, 48, 3), stride=2, edge="repeat")
        and not ask((64, 64, 3), side=16)
    )
    assert not ask((64, 64, 3), enlarge=True, edge="repeat") and not ask((8, 64, 1)) and not ask((64, 64, 5))


def test_strips_change_no_number_but_by_rounding(tmp_path: Path) -> None:
    x = draw_input("tiny", "decode", 5, 2)
    frame: Frame = build_frame(build_graph("tiny", "decode"), x)
    planner = build_planner(frame, KERNELS[8])
    places = {number: Place.MEMORY if number in frame.whole else Place.PASSING for number in range(len(frame.sizes))}
    results = [run_plan(planner, planner.measure(Choice(places=places, strip=strip)), x, tmp_path) for strip in (8, 24, 128)]
    for other in results[1:]:
        assert (other - results[0]).abs().max() < 2e-5 * results[0].abs().max()
