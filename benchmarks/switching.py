"""What is left of a model when another takes its place: resident memory after each of many switches between two files.

    python benchmarks/switching.py [--switches 20] [--size 256x256] [--json FILE] [--quick]

Writes two all-in-one files of random 16-bit weights at the width of Stable Diffusion 1 (2.1 GB each). A process of its own loads one, draws
a picture in one step, lets go of all of it, loads the other, and so on. `--quick` takes the pocket model's file twice.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

TIMEOUT = 3600
WRITTEN = 1 << 22  # numbers that are drawn; tensors are parts of their repetition
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}


def list_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of an all-in-one file of Stable Diffusion 1, in the original layout."""
    import torch

    from eightfold.autoencoders.kl import KLAutoencoder
    from eightfold.checkpoints.rename import to_original_names
    from eightfold.denoisers.unet import UNet
    from eightfold.families.clip import CLIP_L
    from eightfold.families.keymaps.clip import CLIP
    from eightfold.families.keymaps.kl import KL
    from eightfold.families.sd1 import SD1
    from eightfold.text.clip import ClipTower

    with torch.device("meta"):
        parts = {
            "model.diffusion_model.": (UNet(SD1.denoiser), SD1.keymap),
            "first_stage_model.": (KLAutoencoder(SD1.space.autoencoder), KL),
            "cond_stage_model.": (ClipTower(CLIP_L), CLIP),
        }
    shapes: dict[str, tuple[int, ...]] = {}
    for prefix, (network, keymap) in parts.items():
        own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        shapes |= {prefix + name: shape for name, shape in to_original_names(own, keymap).items()}
    return shapes


def write_model(path: Path, seed: int) -> None:
    """Random numbers of which no norm is 0 and no signal grows."""
    import torch

    from eightfold.checkpoints.save import Pending, write_pending

    drawn = torch.randn(WRITTEN, generator=torch.Generator().manual_seed(seed))

    def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        count = prod(shape)
        numbers = drawn.repeat(-(-count // WRITTEN))[:count].view(shape)
        if len(shape) > 1:
            return (numbers * prod(shape[1:]) ** -0.5).half()
        return (0.1 * numbers + (0 if name.endswith("bias") else 1)).half()

    pending = {name: Pending(torch.float16, shape, partial(draw, name, shape)) for name, shape in list_shapes().items()}
    for _ in write_pending(path, pending, {}, overwrite=False):
        pass


def switch(path: str, size: tuple[int, int]) -> int:
    """Load, draw, and let go; the bytes of the tensors that were held."""
    from eightfold.pipelines.bundle import load
    from eightfold.pipelines.request import Request

    model = load(path, device="cpu")
    *_, last = model.generate(Request(prompt="a red cube", size=size, steps=1, seed=1))
    assert last.images[0].image.isfinite().all()
    towers = getattr(model.text, "towers", ())
    networks = [model.denoiser, model.codec.network, *towers]
    return sum(tensor.nbytes for network in networks for tensor in network.state_dict().values())


def work(job: dict[str, Any]) -> None:
    """What the process of its own does: a line of JSON for each switch."""
    from eightfold.core.memory import measure_resident

    for number in range(job["switches"]):
        begin = time.perf_counter()
        held = switch(job["files"][number % len(job["files"])], tuple(job["size"]))
        row = {"switch": number + 1, "resident": measure_resident(), "weights": held, "seconds": round(time.perf_counter() - begin, 2)}
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


def measure(files: list[Path], size: tuple[int, int], switches: int) -> list[dict[str, Any]]:
    job = {"files": [str(file) for file in files], "size": size, "switches": switches}
    command = [sys.executable, __file__, "--job", json.dumps(job)]
    done = subprocess.run(command, env={**os.environ, **PASSIVE}, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def judge(rows: list[dict[str, Any]]) -> dict[str, float]:
    """What the last switch and the worst one after the second leave, as a share of what two leave."""
    two = rows[1]["resident"]
    return {"after two": two, "last": rows[-1]["resident"] / two, "most": max(row["resident"] for row in rows[1:]) / two}


def print_table(rows: list[dict[str, Any]], verdict: dict[str, float], console: Console) -> None:
    table = Table("switch", "resident MB", "of two", "weights MB", "seconds")
    for row in rows:
        share = f"{row['resident'] / verdict['after two']:.3f}"
        table.add_row(str(row["switch"]), f"{row['resident'] / 1e6:.0f}", share, f"{row['weights'] / 1e6:.0f}", f"{row['seconds']:.1f}")
    console.print(table)
    console.print(f"{len(rows)} switches leave {verdict['last']:.3f} of what two leave, {verdict['most']:.3f} at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--quick", action="store_true", help="the pocket model's file, twice")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        return work(json.loads(options.job))
    if options.switches < 2:
        parser.error("at least 2 switches")
    width, height = (int(side) for side in options.size.split("x"))
    with tempfile.TemporaryDirectory(prefix="eightfold-switching-") as folder:
        files = [Path(folder, f"{name}.safetensors") for name in "ab"]
        for seed, file in enumerate(files):
            write_pocket(file) if options.quick else write_model(file, seed)
        rows = measure(files, (width, height), options.switches)
    verdict = judge(rows)
    print_table(rows, verdict, Console())
    if options.json:
        options.json.write_text(json.dumps({"size": options.size, "rows": rows, **verdict}, indent=1) + "\n")
    return None


def write_pocket(path: Path) -> None:
    from eightfold.pipelines.bundle import to_path

    shutil.copy(to_path("pocket"), path)


if __name__ == "__main__":
    main()
