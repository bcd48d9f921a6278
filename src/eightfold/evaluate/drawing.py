"""Many pictures from prompts, drawn in processes and kept in shards: an interrupted run goes on at the first missing shard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..checkpoints.formats import read_safetensors_header
from ..checkpoints.load import read_tensors
from ..checkpoints.save import write_safetensors
from ..codec.pixels import to_bytes
from ..core.errors import CheckpointError
from ..core.progress import Progress
from ..core.versions import read_versions
from ..data.pictures import run_in_processes
from ..pipelines.bundle import Model, load
from ..pipelines.request import Request

VERSION = 2  # raise it when the same drawings give other pictures
SHARD = 50
AGAIN = 0.6  # strength of a second pass


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture `size` x `size`: with the request's defaults in one pass, or at half that size, enlarged and denoised again."""

    prompt: str
    seed: int
    size: int = 128
    passes: int = 1


def to_model_key(model: Model) -> list[object]:
    """Everything about the model that a picture depends on."""
    names = [model.fingerprint, model.codec.encoder_fingerprint, model.codec.decoder_fingerprint]
    return [*names, asdict(model.family.defaults), read_versions()]


def to_key(*parts: object) -> str:
    """A short name for what can be written as JSON."""
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def to_paths(model: Model, drawings: Sequence[Drawing], folder: Path) -> list[Path]:
    key = to_key(VERSION, AGAIN, to_model_key(model), [asdict(drawing) for drawing in drawings])
    return [folder / f"drawn-{key}-{start:06d}.safetensors" for start in range(0, len(drawings), SHARD)]


def draw_images(model: Model, drawings: Sequence[Drawing], folder: Path, task: str) -> Iterator[Progress]:
    """Draw what is not in `folder` yet, in float32 on the CPU: one single-threaded process a core does a shard at a time."""
    paths = to_paths(model, drawings, folder)
    shards = {path: drawings[number * SHARD : (number + 1) * SHARD] for number, path in enumerate(paths)}
    missing = [(model.source, path, shard) for path, shard in shards.items() if not path.exists()]
    done = len(drawings) - sum(len(shard) for *_, shard in missing)
    for index in run_in_processes(write_shard, missing):
        done += len(missing[index][2])
        yield Progress(task=task, number=done, total=len(drawings))


def read_images(model: Model, drawings: Sequence[Drawing], folder: Path) -> UInt8[Tensor, "n 3 h w"]:
    """The pictures of `drawings`, all of one size, in order. Raises CheckpointError for a shard that is damaged."""
    parts: list[Tensor] = []
    for number, path in enumerate(to_paths(model, drawings, folder)):
        count, size = len(drawings[number * SHARD : (number + 1) * SHARD]), drawings[0].size
        try:
            if read_safetensors_header(path).tensors["pixels"].shape != (count, 3, size, size):
                raise KeyError("pixels")
        except (CheckpointError, KeyError):
            raise CheckpointError(f"{path} is damaged", hint="remove it: it is drawn again") from None
        parts.append(read_tensors(path)["pixels"])
    return torch.cat(parts)


@cache
def load_once(source: str) -> Model:
    return load(source, device="cpu", dtype="float32")


def write_shard(source: str, path: Path, drawings: Sequence[Drawing]) -> None:
    images = [draw_image(load_once(source), drawing) for drawing in drawings]
    write_safetensors(path, {"pixels": to_bytes(torch.cat(images))}, {}, overwrite=True)


def draw_image(model: Model, drawing: Drawing) -> Float[Tensor, "1 3 h w"]:
    """One picture in [-1, 1]."""
    side = (drawing.size, drawing.size)
    request = Request(prompt=drawing.prompt, seed=drawing.seed, size=side, enlarge=drawing.passes, enlarge_strength=AGAIN)
    *_, last = model.generate(request)
    return last.images[0].image
