"""What `make figures` runs: every picture and every table of docs/latent-space.md, measured.

Nothing is fetched. The first run trains two small autoencoders and a judge and takes about half an hour on one core; what is done is kept
under runs/, so that a run that was stopped goes on and the next one takes seconds. On one machine the same weights give the same files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import latent_space_codec as codecs
import latent_space_model as models
import torch
from latent_space_page import PAGE, fill_page, keep

import eightfold as ef
from eightfold.codec.codec import Codec
from eightfold.core.progress import Progress
from eightfold.evaluate.generated import measure_sizes
from eightfold.evaluate.judge import load_judge
from eightfold.evaluate.judging import train_judge
from eightfold.evaluate.pocket import remember
from eightfold.evaluate.renders import Bench

MEASURED = Path("runs/evaluate-pocket")  # the folder of `eightfold evaluate pocket`: what both need is done once
EVERY = 50  # steps between two lines


def main() -> None:
    torch.set_num_threads(1)  # sums differ in their last bits with the number of threads
    tables = {**fill_from_codecs(), **fill_from_model()}
    fill_page(tables)
    print(f"{PAGE}: {len(tables)} tables, and the pictures beside them")


def fill_from_codecs() -> dict[str, str]:
    own = ef.load("pocket", device="cpu").codec
    follow(codecs.train_both())
    follow(train_judge(MEASURED))
    judge = load_judge(MEASURED)
    plain, vae = codecs.load_twin("plain"), codecs.load_twin("vae")
    tables = keep("roundtrip", [*name(own)], codecs.compare_pictures, own)
    tables |= keep("twins", [*name(plain), *name(vae), judge.key], codecs.compare_twins, plain, vae, judge)
    return tables | keep("wrong", [*name(own), *name(plain), *name(vae)], codecs.decode_wrongly, own, plain, vae)


def fill_from_model() -> dict[str, str]:
    model = ef.load("pocket", device="cpu")
    bench = Bench(model=model, judge=load_judge(MEASURED), folder=MEASURED)
    follow(models.draw_all(bench))
    sizes = follow(remember(bench, "sizes", measure_sizes))
    facts = [model.fingerprint, bench.judge.key]
    tables = keep("walk", facts, models.compare_walks, model, bench.judge)
    tables |= keep("unseen", facts, models.show_unseen, bench)
    return tables | keep("sizes", [*facts, sizes], models.show_sizes, bench, sizes)


def name(codec: Codec) -> tuple[str, str]:
    return codec.encoder_fingerprint, codec.decoder_fingerprint


def follow(run: Iterator[Progress]) -> Any:
    """Run to the end, with a line now and then; what the run returns."""
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            return end.value
        if progress.number % EVERY == 0 or progress.number == progress.total:
            print(f"  {progress.task} {progress.number}/{progress.total}", file=sys.stderr)


if __name__ == "__main__":
    main()
