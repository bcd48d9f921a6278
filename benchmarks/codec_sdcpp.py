"""stable-diffusion.cpp, whose library makes whole pictures only: its decoder is timed between two lines of its log.

The rest of the model is zeros, so that its file has holes and what it computes is of no consequence; one step, without guidance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

BEGIN, END = "decoding 1 latents", "decode_first_stage completed"
WIDTH, LAYERS = 768, 12  # of the text encoder
Shapes = dict[str, tuple[int, ...]]


def list_text() -> Shapes:
    """The text encoder of Stable Diffusion 1 as its files name it."""
    start = "cond_stage_model.transformer.text_model."
    shapes: Shapes = {f"{start}embeddings.{name}_embedding.weight": (count, WIDTH) for name, count in (("token", 49408), ("position", 77))}
    for layer in range(LAYERS):
        one = f"{start}encoder.layers.{layer}."
        maps = {f"self_attn.{part}_proj": (WIDTH, WIDTH) for part in "qkv"} | {"self_attn.out_proj": (WIDTH, WIDTH)}
        maps |= {"mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
        for name, shape in maps.items():
            shapes |= {f"{one}{name}.weight": shape, f"{one}{name}.bias": shape[:1]}
        shapes |= {f"{one}layer_norm{number}.{kind}": (WIDTH,) for number in (1, 2) for kind in ("weight", "bias")}
    return shapes | {f"{start}final_layer_norm.{kind}": (WIDTH,) for kind in ("weight", "bias")}


def list_denoiser() -> Shapes:
    from eightfold.checkpoints.rename import to_original_names
    from eightfold.denoisers.unet import UNet
    from eightfold.families.sd1 import SD1

    assert SD1.keymap is not None
    with torch.device("meta"):
        ours = {name: tuple(tensor.shape) for name, tensor in UNet(SD1.denoiser).state_dict().items()}
    return {f"model.diffusion_model.{name}": shape for name, shape in to_original_names(ours, SD1.keymap).items()}


def list_autoencoder(weights: str) -> dict[str, Tensor]:
    from eightfold.checkpoints.convert import to_original
    from eightfold.families.spaces import SD

    assert SD.keymap is not None
    return {f"first_stage_model.{name}": tensor for name, tensor in to_original(load_file(weights), SD.keymap).items()}


def write_model(weights: str, path: Path) -> None:
    """A whole Stable Diffusion 1 with this autoencoder; all else are zeros that take no room."""
    given, zeros = list_autoencoder(weights), {**list_text(), **list_denoiser()}
    header, place = {}, 0
    for name, shape, kind, size in list_entries(given, zeros):
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in given.values():
            file.write(tensor.contiguous().numpy().data)
        file.truncate(8 + len(text) + place)


def list_entries(given: Mapping[str, Tensor], zeros: Shapes) -> Iterator[tuple[str, tuple[int, ...], str, int]]:
    """Name, shape, type and bytes, in the order of the file: what holds numbers first."""
    for name, tensor in given.items():
        yield name, tuple(tensor.shape), "F32", 4 * tensor.numel()
    for name, shape in zeros.items():
        yield name, shape, "F16", 2 * prod(shape)


def build_sdcpp(job: dict[str, Any], note: Callable[[str], None]) -> Callable[[], np.ndarray]:
    """A run of the whole; `note` is called with "begin" and "end" when its decoder starts and is done."""
    import stable_diffusion_cpp

    path = Path(job["weights"]).with_suffix(".whole.safetensors")
    if not path.exists():
        write_model(job["weights"], path)

    @stable_diffusion_cpp.sd_log_callback
    def listen(level: int, text: bytes, data: object) -> None:
        line = text.decode(errors="replace")
        for mark, what in ((BEGIN, "begin"), (END, "end")):
            if mark in line:
                note(what)

    model = stable_diffusion_cpp.StableDiffusion(model_path=str(path), n_threads=job["threads"], wtype="default", verbose=True)
    stable_diffusion_cpp.sd_set_log_callback(listen, None)
    model.listen = listen  # has to live as long as the library may call it

    def run() -> np.ndarray:
        (picture,) = model.generate_image(prompt="", width=job["side"], height=job["side"], cfg_scale=1.0, sample_steps=1)
        return np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1)[None] / 127.5 - 1

    return run
