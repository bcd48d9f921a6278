"""The layers of Stable Diffusion's decoder for 512x512 pixels, one by one: our kernels against torch's convolution.

    python benchmarks/kernels.py [--json FILE] [--quick] [--threads N] [--lanes N]

Each layer is measured as a decoder uses it: group normalisation, SiLU, convolution, bias and (where there is one) the residual; ours also
leaves the moments for the next normalisation. torch runs eagerly, once with plain and once with channels-last memory. Medians of runs in
turn in one process; GFLOP/s count the operations of a direct convolution for all three. `--quick` takes two small layers and few runs.
Weights are transformed beforehand; how long that takes is a column of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads would go on spinning into our runs

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from eightfold.checkpoints.known import to_folder
from eightfold.nn.kernels import ready
from eightfold.nn.kernels.before import Before
from eightfold.nn.kernels.moments import measure_moments, to_affine
from eightfold.nn.kernels.plane import build_plane, from_plane, to_planes
from eightfold.nn.kernels.pool import Pool

GROUPS, EPS = 32, 1e-6


@dataclass(frozen=True)
class Layer:
    """Channels in and out, the side of its input, and whether it enlarges (then without a normalisation) or adds a residual."""

    channels: int
    outputs: int
    side: int
    enlarge: bool = False
    residual: bool = False

    @property
    def name(self) -> str:
        return f"{self.channels} -> {self.outputs} at {self.side}{' enlarging' if self.enlarge else ''}"

    @property
    def operations(self) -> float:
        """Of a direct convolution: multiplications and additions."""
        return 18.0 * self.channels * self.outputs * (self.side * (2 if self.enlarge else 1)) ** 2


LAYERS = [
    Layer(512, 512, 64, residual=True),
    Layer(512, 512, 128, residual=True),
    Layer(512, 256, 256),
    Layer(256, 256, 256, residual=True),
    Layer(256, 128, 512),
    Layer(128, 128, 512, residual=True),
    Layer(128, 3, 512),
    Layer(512, 512, 64, enlarge=True),
    Layer(512, 512, 128, enlarge=True),
    Layer(256, 256, 256, enlarge=True),
]
QUICK = [Layer(128, 128, 64, residual=True), Layer(128, 128, 32, enlarge=True)]


def measure(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Median wall and CPU seconds of each run, all of them in turn; the first round is a warm-up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            run()
            if repeat:
                times[name].append((time.perf_counter() - start, time.process_time() - start_cpu))
    return {
        name: {"seconds": statistics.median(wall for wall, _ in found), "cpu seconds": statistics.median(cpu for _, cpu in found)}
        for name, found in times.items()
    }


@dataclass(frozen=True)
class Case:
    """A layer with random numbers in it."""

    layer: Layer
    x: Tensor
    weight: Tensor
    bias: Tensor
    added: Tensor | None


def build_case(layer: Layer) -> Case:
    torch.manual_seed(0)
    weight = torch.randn(layer.outputs, layer.channels, 3, 3) / (3 * layer.channels**0.5)
    added = torch.randn(1, layer.outputs, layer.side, layer.side) if layer.residual else None
    return Case(layer, torch.randn(1, layer.channels, layer.side, layer.side), weight, torch.randn(layer.outputs), added)


def run_torch(case: Case) -> Tensor:
    if case.layer.enlarge:
        return F.conv2d(F.interpolate(case.x, scale_factor=2, mode="nearest"), case.weight, case.bias, padding=1)
    y = F.conv2d(F.silu(F.group_norm(case.x, GROUPS, eps=EPS), inplace=True), case.weight, case.bias, padding=1)
    return y if case.added is None else y + case.added


def build_ours(case: Case, lanes: int, pool: Pool) -> tuple[Callable[[], Tensor], float]:
    """A run, and the seconds that transforming the weights takes. The input's moments come from the layer before, and cost nothing here."""
    from eightfold.nn.kernels.geometry import choose_points
    from eightfold.nn.kernels.layers import convolve  # after `ready` has said where compiled code is kept
    from eightfold.nn.kernels.packed import choose_lanes, pack_weights

    layer = case.layer
    fitting, points = choose_lanes(layer.channels, layer.outputs, lanes), choose_points(layer.channels, layer.outputs, layer.side**2)

    weights = case.weight.numpy(), case.bias.numpy()
    pack = partial(pack_weights, *weights, lanes=fitting, pool=pool, enlarge=layer.enlarge, points=points)
    pack()
    start = time.perf_counter()
    packed = pack()
    seconds = time.perf_counter() - start
    source, side = to_planes(case.x)[0], layer.side * (2 if layer.enlarge else 1)
    moments, ones = measure_moments(source.pixels), np.ones(layer.channels)
    target = build_plane(side, side, packed.stored)
    residual = None if case.added is None else to_planes(case.added)[0]

    def run() -> Tensor:
        before = None if layer.enlarge else Before(affine=to_affine(moments, GROUPS, ones, 0 * ones, EPS), silu=True)
        return from_plane(convolve(packed, source, target, before=before, residual=residual, pool=pool), layer.outputs)

    return run, seconds


@torch.no_grad()
def compare(layer: Layer, lanes: int, threads: int, repeats: int) -> dict[str, object]:
    case = build_case(layer)
    fields = {name: None if value is None else value.contiguous(memory_format=torch.channels_last) for name, value in
              (("x", case.x), ("weight", case.weight), ("added", case.added))}  # fmt: skip
    last = Case(layer=layer, bias=case.bias, **fields)  # type: ignore[arg-type]
    ours, seconds = build_ours(case, lanes, Pool(threads))
    runs = {"ours": ours, "torch": lambda: run_torch(case), "torch channels last": lambda: run_torch(last)}
    error = float((ours() - run_torch(case)).abs().max())
    found = measure(runs, repeats)
    rates = {name: layer.operations / times["seconds"] / 1e9 for name, times in found.items()}
    best = min(times["seconds"] for name, times in found.items() if name != "ours")
    return {
        "layer": layer.name,
        **asdict(layer),
        "times": found,
        "GFLOP/s": rates,
        "faster than the best of torch": best / found["ours"]["seconds"],
        "largest error": error,
        "largest result": float(ours().abs().max()),
        "seconds to transform the weights": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="two small layers and few runs")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    parser.add_argument("--lanes", type=int, choices=(4, 8, 16), help="numbers in a vector, instead of as many as the CPU has")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    state = ready.available(to_folder() / "kernels")
    if not state.usable:
        parser.error(state.reason)
    lanes = options.lanes or state.lanes
    figures: dict[str, object] = {"threads": options.threads, "lanes": lanes, "torch": torch.__version__, "load before": os.getloadavg()}
    print(f"{options.threads} threads, vectors of {lanes}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}; effective GFLOP/s")
    print(f"{'layer':28}{'ours':>8}{'torch':>8}{'ch. last':>9}{'faster':>8}{'CPU s':>8}{'torch':>8}{'error':>9}{'weights s':>10}")
    found = []
    for layer in QUICK if options.quick else LAYERS:
        row = compare(layer, lanes, options.threads, 2 if options.quick else options.repeats)
        found.append(row)
        rates, times = row["GFLOP/s"], row["times"]
        cpu = min(times[name]["cpu seconds"] for name in ("torch", "torch channels last"))
        print(
            f"{layer.name:28}{rates['ours']:8.0f}{rates['torch']:8.0f}{rates['torch channels last']:9.0f}"
            f"{row['faster than the best of torch']:8.2f}{times['ours']['cpu seconds']:8.3f}{cpu:8.3f}"
            f"{row['largest error']:9.1e}{row['seconds to transform the weights']:10.3f}"
        )
    figures |= {"layers": found, "load after": os.getloadavg()}
    print(f"load afterwards {os.getloadavg()[0]:.1f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
