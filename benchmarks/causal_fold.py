"""What folding saves: Qwen-Image's autoencoder on a picture, as a network in the plane and as the video network its files hold.

    python benchmarks/causal_fold.py [--json FILE]

The same random weights in both: ours, folded, against AutoencoderKLQwenImage of diffusers with one frame. Times are the medians of
alternating runs in one process, reported as ratios beside the largest difference of the two results, threads, CPU seconds and load;
and the time that folding itself takes, once at load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import diffusers
import torch
from torch import Tensor

from eightfold.autoencoders.qwen import QwenAutoencoder, fold_qwen
from eightfold.checkpoints.load import load_module
from eightfold.specs.network import QwenConfig


@dataclass(frozen=True)
class Case:
    """A width of the network and the side of the square picture it is measured with."""

    width: int
    side: int


CASES = {"toy": Case(16, 128), "moderate": Case(48, 192)}


def build_pair(case: Case) -> tuple[QwenAutoencoder, diffusers.AutoencoderKLQwenImage, float]:
    """Ours, theirs, and the seconds that folding took."""
    torch.manual_seed(0)
    theirs = diffusers.AutoencoderKLQwenImage(base_dim=case.width).eval()
    start = time.perf_counter()
    folded = fold_qwen(theirs.state_dict())
    seconds = time.perf_counter() - start
    config = QwenConfig(channels=16, width=case.width)
    return load_module(lambda: QwenAutoencoder(config), folded, source="their weights"), theirs, seconds


def measure(runs: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, dict[str, float]]:
    """Median wall and CPU seconds of each run, all of them in turn; the first round is a warm-up."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            run()
            if repeat:
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - start_cpu)
    return {name: {"seconds": statistics.median(wall[name]), "cpu seconds": statistics.median(cpu[name])} for name in runs}


@torch.no_grad()
def compare(case: Case, repeats: int) -> dict[str, object]:
    ours, theirs, seconds = build_pair(case)
    image = torch.rand(1, 3, case.side, case.side) * 2 - 1
    raw = torch.randn(1, 16, case.side // 8, case.side // 8)
    ways: dict[str, dict[str, Callable[[], Tensor]]] = {
        "encode": {
            "folded": lambda: ours.encode(image).mode,
            "video": lambda: theirs.encode(image[:, :, None]).latent_dist.mode()[:, :, 0],
        },
        "decode": {
            "folded": lambda: ours.decode(raw).clamp(-1, 1),
            "video": lambda: theirs.decode(raw[:, :, None]).sample[:, :, 0],
        },
    }
    found: dict[str, object] = {"width": case.width, "side": case.side, "seconds to fold": seconds}
    found |= {"numbers": {"folded": count(ours), "video": count(theirs)}}
    for way, runs in ways.items():
        figures = measure(runs, repeats)
        ratio = {unit: figures["video"][unit] / figures["folded"][unit] for unit in figures["folded"]}
        difference = (runs["folded"]() - runs["video"]()).abs().max().item()
        found[way] = {**figures, "video / folded": ratio, "largest difference": difference}
    return found


def count(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = {
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        "load before": os.getloadavg()[0],
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "cases": {name: compare(case, options.repeats) for name, case in CASES.items()},
    }
    result["load after"] = os.getloadavg()[0]
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        with open(options.json, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
