"""AdamW against Muon on the pocket denoiser: the loss of held-out latents after the same CPU time.

    python benchmarks/optimisers.py [--seconds 200] [--folder runs/pocket-denoiser] [--json FILE]

Needs the latents that `make train-pocket` caches. Each optimiser has `seconds` CPU seconds for its whole schedule (held for 0.3 of
them, then a cosine to 0.02), the same starting weights and the same batches; the last 512 latents are held out. One thread each,
one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import torch

from eightfold.codec.load import load_codec
from eightfold.core.config import read_toml
from eightfold.families.pocket import POCKET_FAMILY as FAMILY
from eightfold.text.words import Words
from eightfold.training.config import DenoiserConfig, Schedule
from eightfold.training.denoiser import Batch, Latents, TextToLatent, compute_losses, draw_batch, read_latents
from eightfold.training.ema import Average
from eightfold.training.loop import seeded, to_rate
from eightfold.training.optimisers import build_optimisers

HELD_OUT = 512
FINE = 10_000  # parts of the schedule: the rate follows the share of the time that is gone
VARIANTS = {"adamw": 1e-3, "muon": 2e-3}  # and its learning rate


def split(latents: Latents, begin: int, end: int) -> Latents:
    return Latents(latents.mean[begin:end], latents.std[begin:end], latents.captions[begin:end])


def train(schedule: Schedule, seconds: float, draw, words: Words) -> tuple[TextToLatent, int]:
    """The averaged model and the number of steps."""
    with seeded(schedule.seed):
        model = TextToLatent(FAMILY)
    optimisers, average = build_optimisers(model, schedule), Average(model, schedule.average)
    begin, step = time.process_time(), 0
    while (gone := (time.process_time() - begin) / seconds) < 1:
        rate = to_rate(int(gone * FINE), replace(schedule, steps=FINE, warmup=1)) * min(1.0, (step + 1) / 100)
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = rate
        model.zero_grad(set_to_none=True)
        compute_losses(model, words, FAMILY, draw(step)).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
        for optimiser in optimisers:
            optimiser.step()
        average.update(model, step)
        step += 1
    model.load_state_dict(average.weights)
    return model.eval(), step


@torch.no_grad()
def measure(model: TextToLatent, words: Words, batches: list[Batch]) -> float:
    return torch.cat([compute_losses(model, words, FAMILY, batch) for batch in batches]).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket-denoiser"))
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = read_toml(Path("configs/pocket-denoiser.toml"), DenoiserConfig)
    codec, words = load_codec(config.autoencoder), Words(FAMILY.text)
    latents = read_latents(next(options.folder.glob("latents-*.safetensors")))
    count = len(latents.captions) - HELD_OUT
    seen, unseen = split(latents, 0, count), split(latents, count, count + HELD_OUT)
    asked = replace(config, caption_dropout=0.0, schedule=replace(config.schedule, batch=64, seed=1))
    batches = [draw_batch(unseen, codec, asked, FAMILY, step) for step in range(HELD_OUT // 64)]
    figures = {}
    for name, rate in VARIANTS.items():
        schedule = replace(config.schedule, optimiser=name, rate=rate, average=0.995)
        model, steps = train(schedule, options.seconds, lambda step: draw_batch(seen, codec, config, FAMILY, step), words)
        figures[name] = {"rate": rate, "steps": steps, "held-out loss": round(measure(model, words, batches), 4)}
    result = {
        "cpu seconds each": options.seconds,
        "figures": figures,
        "threads": 1,
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        Path(options.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
