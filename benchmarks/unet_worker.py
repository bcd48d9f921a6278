"""One U-Net in a process of its own, told over a pipe what to do, as in `codec_worker.py`.

    python unet_worker.py JOB.json

Weights are drawn by their names, the same for all, so that no file of several GB is needed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from codec_meter import measure, read_resident, watch_attention

Run = Callable[[], np.ndarray]


def fill(network: Any) -> None:
    from codec_peers import draw_tensor

    state = {name: draw_tensor(name, tuple(one.shape)) for name, one in network.state_dict().items()}
    network.load_state_dict(state, strict=True, assign=True)
    network.eval().requires_grad_(False)


def build_inputs(job: dict[str, Any]) -> dict[str, Any]:
    """Noisy latents, timesteps, tokens, and what SDXL is told beside them: the text as a whole, six sizes."""
    import torch

    draw, batch = torch.Generator().manual_seed(0), job["batch"]
    noisy = torch.randn(batch, job["config"]["channels"], job["side"], job["side"], generator=draw)
    tokens = torch.randn(batch, 77, job["config"]["context"], generator=draw)
    pooled = torch.randn(batch, job["vector"]["pooled"], generator=draw) if job["vector"] else None
    return {"noisy": noisy, "timestep": torch.full((batch,), 500.0), "tokens": tokens, "pooled": pooled}


def build_ours(job: dict[str, Any]) -> Run:
    import torch

    from eightfold.checkpoints.known import to_folder
    from eightfold.codec.engine import Engine
    from eightfold.core.device import choose_placement
    from eightfold.denoisers.unet import UNet, to_vector
    from eightfold.nn.kernels import ready
    from eightfold.pipelines.running import choose_runner
    from eightfold.specs.network import UNetConfig, VectorConfig

    vector = VectorConfig(**{**job["vector"], "numbers": tuple(job["vector"]["numbers"])}) if job["vector"] else None
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in job["config"].items()}
    with torch.device("meta"):
        network = UNet(UNetConfig(**lists, vector=vector))
    fill(network)
    given = build_inputs(job)
    told = None if vector is None else to_vector(vector, given["pooled"], dict.fromkeys(vector.numbers, 512.0))
    ready.available(to_folder() / "kernels")  # what a first use would wait for in the background
    run = choose_runner(network, choose_placement("cpu", "float32"), Engine())

    @torch.no_grad()
    def step() -> np.ndarray:
        return run(given["noisy"], given["timestep"], given["tokens"], told).numpy()

    return step


def build_theirs(job: dict[str, Any]) -> Run:
    import torch
    from diffusers import UNet2DConditionModel

    config, vector, given = job["config"], job["vector"], build_inputs(job)
    widths = [config["width"] * one for one in config["multipliers"]]
    with torch.device("meta"):
        network = UNet2DConditionModel(
            in_channels=config["channels"],
            out_channels=config["out_channels"],
            down_block_types=tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in config["attention"]),
            up_block_types=tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(config["attention"])),
            block_out_channels=tuple(widths),
            layers_per_block=config["blocks"],
            cross_attention_dim=config["context"],
            transformer_layers_per_block=(*config["attention"][:-1], config["middle"]),
            attention_head_dim=tuple(config["heads"] or width // config["head_width"] for width in widths),
            use_linear_projection=config["linear_projection"],
            addition_embed_type="text_time" if vector else None,
            addition_time_embed_dim=vector["sinusoid"] if vector else None,
            projection_class_embeddings_input_dim=vector["pooled"] + 6 * vector["sinusoid"] if vector else None,
        )
    fill(network)
    noisy = given["noisy"]
    if job["contestant"] == "diffusers channels-last":
        network, noisy = network.to(memory_format=torch.channels_last), noisy.contiguous(memory_format=torch.channels_last)
    added = {"text_embeds": given["pooled"], "time_ids": torch.full((job["batch"], 6), 512.0)} if vector else None

    @torch.no_grad()
    def step() -> np.ndarray:
        return network(noisy, given["timestep"], given["tokens"], added_cond_kwargs=added).sample.contiguous().numpy()

    return step


def serve(job: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
    import torch

    start = time.perf_counter()
    torch.set_num_threads(job["threads"])
    attention, result = watch_attention(), None
    run = build_ours(job) if job["contestant"] == "ours" else build_theirs(job)
    idle = read_resident()
    answer({"seconds to load": time.perf_counter() - start, "torch threads": torch.get_num_threads(), "idle": idle})
    for line in sys.stdin:
        command, _, path = line.strip().partition(" ")
        if command == "run":
            result, figures = measure(run, idle=idle, attention=attention)
            answer(figures)
        elif command == "save" and result is not None:
            np.save(path, result)
            answer({"saved": path})


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries say goes to standard error
    serve(job, lambda what: print(json.dumps(what), file=pipe, flush=True))


if __name__ == "__main__":
    main()
