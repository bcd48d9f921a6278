"""What latent diffusion saves: the same U-Net on 128x128 pixels and on the 16x16 latent of the same picture.

    python benchmarks/latent_against_pixels.py [--json FILE]

Both networks have the pocket denoiser's widths, depth and attention; only the first and last convolution differ in their channels
(3 and 4). Times are the median of alternating runs; memory is the rise of resident memory above the idle process, each measured in
a process of its own. Reported as ratios, beside threads, CPU seconds and load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from eightfold.denoisers.unet import UNet
from eightfold.families.pocket import POCKET_FAMILY
from eightfold.families.spaces import POCKET

SIZE = 128
SHAPES = {"pixels": (3, SIZE, SIZE), "latent": (POCKET.channels, SIZE // POCKET.downscale, SIZE // POCKET.downscale)}
BATCH = {"forward": 1, "training": 4}


def build(kind: str) -> UNet:
    torch.manual_seed(0)
    channels = SHAPES[kind][0]
    return UNet(replace(POCKET_FAMILY.denoiser, channels=channels, out_channels=channels))


def run(model: UNet, kind: str, what: str) -> None:
    batch = BATCH[what]
    noisy, timestep = torch.randn(batch, *SHAPES[kind]), torch.full((batch,), 500.0)
    tokens = torch.randn(batch, 24, POCKET_FAMILY.denoiser.context)
    if what == "forward":
        with torch.no_grad():
            model(noisy, timestep, tokens)
    else:
        model(noisy, timestep, tokens).square().mean().backward()


def measure_times(repeats: int) -> dict[str, dict[str, float]]:
    """Median wall and CPU seconds of a step, the two kinds in turn."""
    models = {kind: build(kind) for kind in SHAPES}
    found: dict[str, dict[str, float]] = {}
    for what in BATCH:
        wall: dict[str, list[float]] = {kind: [] for kind in SHAPES}
        cpu: dict[str, list[float]] = {kind: [] for kind in SHAPES}
        for repeat in range(repeats + 1):
            for kind, model in models.items():
                start, start_cpu = time.perf_counter(), time.process_time()
                run(model, kind, what)
                if repeat:  # the first is a warm-up
                    wall[kind].append(time.perf_counter() - start)
                    cpu[kind].append(time.process_time() - start_cpu)
        for kind in SHAPES:
            found[f"{what} {kind}"] = {"seconds": statistics.median(wall[kind]), "cpu seconds": statistics.median(cpu[kind])}
    return found


def measure_rise(kind: str, what: str) -> float:
    """Peak resident memory of a step above that of the process with its network, in MB; run in a fresh process."""
    model = build(kind)
    before = read_status("VmRSS")
    run(model, kind, what)
    return read_status("VmHWM") - before


def read_status(field: str) -> float:
    """A line of /proc/self/status in MB. (The peak that getrusage gives is inherited from the parent process.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--rise", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rise:
        print(measure_rise(*options.rise))
        return
    figures = measure_times(options.repeats)
    for name in figures:
        what, kind = name.split()
        answer = subprocess.run([sys.executable, __file__, "--rise", kind, what], capture_output=True, text=True, check=True)
        figures[name]["rise in MB"] = float(answer.stdout)
    ratios = {
        what: {unit: figures[f"{what} pixels"][unit] / max(figures[f"{what} latent"][unit], 1e-9) for unit in figures[f"{what} latent"]}
        for what in BATCH
    }
    result = {
        "size": SIZE,
        "batch": BATCH,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "figures": figures,
        "pixels / latent": ratios,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        with open(options.json, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
