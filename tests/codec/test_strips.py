"""Any plan gives what the plain loop gives, reads nothing that is not there, and leaves nothing open however it ends."""

from __future__ import annotations

import errno
import os
import sys
from copy import deepcopy
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eightfold.codec.cost import count_operations
from eightfold.codec.lower import lower
from eightfold.codec.plan import Choice
from eightfold.codec.schedule import Frame, Place
from eightfold.core.errors import OutputError
from eightfold.nn.convolving import Kernels
from eightfold.nn.graph import Convolve, Graph, Node
from eightfold.nn.stages import Convolution, NormSiLU, run_stages
from toyruns import (
    CASES,
    Task,
    build_frame,
    build_graph,
    build_network,
    build_planner,
    count_open,
    draw_choice,
    draw_input,
    poison,
    run_plainly,
    run_plan,
    to_stages,
)
from weights import draw, randomise

ENDS = [KeyboardInterrupt, ValueError, MemoryError]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch)


def spill_everything(frame: Frame, strip: int = 8) -> Choice:
    return Choice(places={number: Place.MEMORY if number in frame.whole else Place.FILE for number in range(len(frame.sizes))}, strip=strip)


def differ(found: torch.Tensor, expected: torch.Tensor) -> float:
    """For outputs of about 1: not a number if anything is not."""
    return float((found - expected).abs().max() / max(1, expected.abs().max()))


@pytest.mark.usefixtures("_poisoned")
@pytest.mark.parametrize(("name", "task"), CASES)
def test_any_plan_is_exact(name: str, task: Task, tmp_path: Path) -> None:
    """Rows that are not there are not numbers here, and so are those that were given back."""

    @given(height=st.integers(1, 5), width=st.integers(1, 3), seed=st.integers(0, 10**6))
    @settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
    def check(height: int, width: int, seed: int) -> None:
        x = draw_input(name, task, height, width)
        planner = build_planner(build_frame(build_graph(name, task), x))
        plan = planner.measure(draw_choice(planner.frame, seed))
        assert differ(run_plan(planner, plan, x, tmp_path), run_plainly(name, task, x)) < 1e-5
        assert list(tmp_path.iterdir()) == []

    check()


@pytest.mark.usefixtures("_poisoned")
@pytest.mark.parametrize("name", ["pocket", "qwen", "hunyuan", "tiny"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_numbers(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """As exact as the plain loop in the same numbers, give or take their rounding."""
    network, x = deepcopy(build_network(name)).to(dtype), draw_input(name, "decode", 4, 3).to(dtype)
    frame = build_frame(lower(to_stages(network, "decode"), x.shape[1]), x)
    planner = build_planner(frame)
    with torch.no_grad():
        plain = run_stages(to_stages(network, "decode"), x)
    exact = run_plainly(name, "decode", x.float())
    for seed in (1, 2):
        found = run_plan(planner, planner.measure(draw_choice(frame, seed)), x, tmp_path)
        assert found.dtype == dtype
        error, usual = (found.float() - exact).square().mean().sqrt(), (plain.float() - exact).square().mean().sqrt()
        assert error < 1.5 * usual + 1e-6


def test_a_convolution_with_moments_of_an_input(tmp_path: Path) -> None:
    """A norm may be the first thing of all."""
    stages, x = [randomise(NormSiLU(2, 4, eps=1e-6), 1), randomise(Convolution(4, 4), 2)], draw(1, 4, 9, 5) + 3
    planner = build_planner(build_frame(lower(stages, 4), x))
    with torch.no_grad():
        assert differ(run_plan(planner, planner.plan(None), x, tmp_path), run_stages(stages, x)) < 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_progress_goes_up_to_one(seed: int, tmp_path: Path) -> None:
    x = draw_input("pocket", "decode", 5, 3)
    planner = build_planner(build_frame(build_graph("pocket", "decode"), x))
    shares: list[float] = []
    run_plan(planner, planner.measure(draw_choice(planner.frame, seed)), x, tmp_path, watch=shares.append)
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == pytest.approx(1)
    assert len(shares) > 10


class Failing(Kernels):
    """Raises at a call."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.left, self.error = at, error

    def convolve(self, *arguments: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error
        super().convolve(*arguments)


@on_linux
@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("at", [1, 30, 70])
def test_nothing_is_left_open(kind: type[BaseException], at: int, tmp_path: Path) -> None:
    x = draw_input("pocket", "decode", 5, 3)
    planner = build_planner(build_frame(build_graph("pocket", "decode"), x))
    plan = planner.measure(spill_everything(planner.frame))
    seen: list[int] = []
    with pytest.raises(kind, match=r"^stop$"):
        run_plan(planner, plan, x, tmp_path, kernels=Failing(at, kind("stop")), watch=lambda _: seen.append(count_open(tmp_path)))
    assert count_open(tmp_path) == 0 and list(tmp_path.iterdir()) == []
    assert at == 1 or max(seen) >= 1
    assert differ(run_plan(planner, plan, x, tmp_path), run_plainly("pocket", "decode", x)) < 1e-5
    assert count_open(tmp_path) == 0


@on_linux
def test_files_are_closed_when_they_were_read_for_the_last_time(tmp_path: Path) -> None:
    x = draw_input("pocket", "decode", 5, 3)
    planner = build_planner(build_frame(build_graph("pocket", "decode"), x))
    plan = planner.measure(spill_everything(planner.frame))
    seen: list[int] = []
    run_plan(planner, plan, x, tmp_path, watch=lambda _: seen.append(count_open(tmp_path)))
    assert 1 <= max(seen) <= 4 and len(plan.passes) > 20


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
@pytest.mark.parametrize("at", [1, 3])
def test_a_full_disk(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw_input("pocket", "decode", 5, 3)
    planner = build_planner(build_frame(build_graph("pocket", "decode"), x))
    fallocate, calls = os.posix_fallocate, iter(range(1, 100))

    def fill(*arguments: int) -> None:
        if next(calls) >= at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fallocate(*arguments)

    monkeypatch.setattr(os, "posix_fallocate", fill)
    with pytest.raises(OutputError, match="No space left") as raised:
        run_plan(planner, planner.measure(spill_everything(planner.frame)), x, tmp_path)
    assert "--memory" in raised.value.hint
    assert list(tmp_path.iterdir()) == [] and (sys.platform != "linux" or count_open(tmp_path) == 0)


def test_values_that_are_not_finite_are_passed_on(tmp_path: Path) -> None:
    """They are found in the result, as they are with the plain loop."""
    x = draw_input("pocket", "decode", 5, 3)
    x[0, 1, 2, 1] = torch.inf
    planner = build_planner(build_frame(build_graph("pocket", "decode"), x))
    found = run_plan(planner, planner.measure(draw_choice(planner.frame, 3)), x, tmp_path)
    assert torch.isnan(found).all() and torch.isnan(run_plainly("pocket", "decode", x)).all()


def test_work_is_counted() -> None:
    """2 x 9 x channels in x channels out x pixels."""
    layer = Convolve(weight=torch.zeros(5, 3, 3, 3), bias=None)
    source = Node(layer=None, inputs=(), channels=3, scale=Fraction(1))
    graph = Graph(nodes=(source, Node(layer=layer, inputs=(0,), channels=5, scale=Fraction(1))))
    assert count_operations(Frame(graph=graph, height=7, width=11, dtype=torch.float32)) == 2 * 9 * 3 * 5 * 77
