"""One contestant in a process of its own, told over a pipe what to do; or, asked to, what writes weights and inputs.

    python codec_worker.py JOB.json

It answers one line of JSON to each line: once it has loaded, then what a run cost to "run", and to "save PATH" when the result is saved.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from codec_meter import Gauge, Stopwatch, measure, read_resident, watch_attention

Run = Callable[[], np.ndarray]


def build_ours(job: dict[str, Any], x: np.ndarray) -> Run:
    """Through the public door; networks of toy width are none that a file could be known by, and go one step below it."""
    import torch

    given = torch.from_numpy(x)
    if job["toy"]:
        from codec_cases import to_space
        from safetensors.torch import load_file

        from eightfold.codec.load import build_codec

        codec = build_codec(load_file(job["weights"]), {}, space=to_space(job["space"], toy=True), source=job["weights"])
    else:
        from eightfold.pipelines.bundle import load_autoencoder

        codec = load_autoencoder(job["weights"], space=job["space"])
    if job["way"] == "encode":
        return lambda: codec.encode(given).raw.numpy()
    return lambda: codec.decode_raw(given).numpy()


def build_run(job: dict[str, Any], gauge: Gauge) -> Run:
    """The contestant's run; one that does more than is measured tells the gauge when it begins and ends."""
    x, contestant = np.load(job["input"]), job["contestant"]
    if contestant == "ours":
        return build_ours(job, x)
    if contestant == "stable-diffusion.cpp":
        from codec_sdcpp import build_sdcpp

        return build_sdcpp(job, gauge.note)
    from codec_peers import build_eager, build_openvino

    if contestant == "OpenVINO":
        return build_openvino(job["facts"], job["way"], job["weights"], x, job["threads"])
    return build_eager(job["facts"], job["way"], job["weights"], x, last=contestant == "diffusers channels-last")


def build_ours_empty(job: dict[str, Any]) -> Any:
    """Names and shapes of ours, which are theirs but for networks of videos, and quicker to have."""
    import torch
    from codec_cases import to_space

    from eightfold.autoencoders.build import build_autoencoder

    with torch.device("meta"):
        return build_autoencoder(to_space(job["space"], toy=job["toy"]).autoencoder)


def prepare(job: dict[str, Any]) -> None:
    from codec_peers import VIDEO, build_empty, write_input, write_weights

    if not Path(job["weights"]).exists():
        empty = build_empty(job["facts"]) if job["facts"]["kind"] in VIDEO else build_ours_empty(job)
        write_weights(empty, job["space"], Path(job["weights"]))
    write_input(job["facts"], job["way"], job["side"], Path(job["input"]))


def read_versions(modules: list[str]) -> dict[str, str]:
    """Of those packages that are installed under the name they are imported by."""
    names = metadata.packages_distributions()
    return {names[module][0]: metadata.version(names[module][0]) for module in modules if module in names}


def load(job: dict[str, Any], gauge: Gauge) -> tuple[Run, Stopwatch, dict[str, Any]]:
    """A run, the watch over its attention, and the line that says it is ready."""
    start = time.perf_counter()
    import torch

    torch.set_num_threads(job["threads"])
    attention = watch_attention()
    run = build_run(job, gauge)
    ready = {"seconds to load": time.perf_counter() - start, "versions": read_versions(job["modules"])}
    ready["torch threads"] = torch.get_num_threads()
    return run, attention, ready


def serve(job: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
    gauge, result = Gauge(None), None
    run, attention, ready = load(job, gauge)
    gauge.idle = idle = read_resident()
    answer({**ready, "idle": idle})
    for line in sys.stdin:
        command, _, path = line.strip().partition(" ")
        if command == "run":
            result = None  # the last one's memory is not this one's
            result, figures = measure(run, idle=idle, attention=attention)
            answer(gauge.figures or figures)
        elif command == "save" and result is not None:
            np.save(path, result)
            answer({"saved": path})


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries say goes to standard error

    def answer(what: dict[str, Any]) -> None:
        print(json.dumps(what), file=pipe, flush=True)

    if job["contestant"] == "prepare":
        prepare(job)
        answer({"prepared": job["input"]})
    else:
        serve(job, answer)


if __name__ == "__main__":
    main()
