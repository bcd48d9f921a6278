"""The embedded model's file, parts of it, and pictures to try them on. No test may depend on what the weights draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from eightfold.checkpoints.formats import read_safetensors_header
from eightfold.checkpoints.load import read_tensors
from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.latentfile import Latent, Padding
from eightfold.pipelines.bundle import to_path

POCKET_FILE = to_path("pocket")


def write_vae(path: Path) -> Path:
    """The pocket autoencoder alone."""
    metadata = {
        key: value for key, value in read_safetensors_header(POCKET_FILE).metadata.items() if key in ("eightfold.scale", "eightfold.shift")
    }
    write_safetensors(path, read_tensors(POCKET_FILE, "autoencoder."), metadata, overwrite=False)
    return path


def write_photo(path: Path, width: int, height: int, *, seed: int = 0, alpha: bool = False) -> Path:
    """Smooth colours with some noise, as a photograph has them; with `alpha`, random opacity."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / 40 + random.uniform(0, 6)
    pixels = np.stack([np.sin(columns + rows), np.cos(rows * 1.3), np.sin(columns * 0.7)], axis=-1) * 90 + 128
    pixels = np.clip(pixels + random.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
    if alpha:
        pixels = np.concatenate([pixels, random.integers(0, 256, (height, width, 1), dtype=np.uint8)], axis=-1)
    Image.fromarray(pixels).save(path)
    return path


def read_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def read_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def build_latent(space: str = "pocket", *, channels: int = 4, width: int = 16, height: int = 24) -> Latent:
    raw = torch.randn(1, channels, height // 8, width // 8, generator=torch.Generator().manual_seed(5))
    return Latent(raw=raw, space=space, width=width, height=height, padding=Padding(0, 0, 0, 0), reading="mode")
