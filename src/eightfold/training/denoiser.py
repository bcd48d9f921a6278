"""Training a denoiser and its text encoder on cached latents of rendered scenes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..checkpoints.formats import AUTOENCODER, DENOISER, TEXT, read_safetensors_header
from ..checkpoints.load import read_tensors
from ..checkpoints.save import write_safetensors
from ..codec.codec import Codec
from ..codec.load import load_codec
from ..codec.normalisation import to_metadata
from ..codec.pixels import from_bytes
from ..core.errors import ConfigError, SpaceMismatch, UnknownName
from ..core.progress import Progress
from ..core.rng import build_generator
from ..data.pictures import VERSION, draw_pictures, read_pictures
from ..denoisers.unet import UNet
from ..diffusion.loss import denoising_loss, draw_times
from ..diffusion.predict import add_noise, to_target
from ..families.catalog import FAMILIES
from ..specs.family import Family
from ..specs.network import WordsConfig
from ..text.words import Words, WordsEncoder
from .config import DenoiserConfig
from .loop import open_run, run_training, seeded

WEIGHTS = "model.safetensors"
ENCODED = 16  # pictures encoded at a time


class TextToLatent(nn.Module):
    """What is trained together: the text encoder and the denoiser."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        assert isinstance(family.text, WordsConfig)
        self.text = WordsEncoder(family.text)
        self.denoiser = UNet(family.denoiser)


@dataclass(frozen=True)
class Latents:
    """The posterior of every picture, before normalisation, and its caption."""

    mean: Float[Tensor, "n c h w"]
    std: Float[Tensor, "n c h w"]
    captions: list[str]


@dataclass(frozen=True)
class Batch:
    """Normalised latents, captions (some dropped), times and noise of one step."""

    clean: Float[Tensor, "b c h w"]
    captions: list[str]
    times: list[float]
    noise: Float[Tensor, "b c h w"]


def train_denoiser(config: DenoiserConfig, folder: Path, *, resume: bool = False) -> Iterator[Progress]:
    """Draw the scenes, encode them once, train, and write `model.safetensors` (all parts, float16) into `folder`."""
    families = {family.name: family for family in FAMILIES}
    if config.family not in families:
        raise UnknownName("family", config.family, families)
    family = families[config.family]
    if not isinstance(family.text, WordsConfig):
        trained = ", ".join(one.name for one in FAMILIES if isinstance(one.text, WordsConfig))
        raise ConfigError(f"family {family.name} has no text encoder that is trained here", hint=f"families that have: {trained}")
    codec = load_codec(config.autoencoder)
    if codec.space.name != family.space.name:
        raise SpaceMismatch(
            f"{config.autoencoder} is an autoencoder of space {codec.space.name}, {family.name} needs {family.space.name}",
            hint="set `autoencoder` to a file that `eightfold train autoencoder` wrote",
        )
    settings = {"stage": "denoiser", "renderer": VERSION, "encoder": codec.encoder_fingerprint, **asdict(config), "family": asdict(family)}
    run = open_run(folder, WEIGHTS, settings, resume=resume)
    yield from draw_pictures(config.pictures, folder)
    path = folder / f"latents-{config.pictures.key}-{codec.encoder_fingerprint[:12]}.safetensors"
    yield from cache_latents(codec, config, folder, path)
    latents = read_latents(path)
    words = Words(family.text)
    with seeded(config.schedule.seed):
        model = TextToLatent(family)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        return compute_losses(model, words, family, draw_batch(latents, codec, config, family, step)).mean(), {}

    yield from run_training(model, loss, config.schedule, run)
    write_model(folder / WEIGHTS, model, codec, config)


def draw_batch(latents: Latents, codec: Codec, config: DenoiserConfig, family: Family, step: int) -> Batch:
    """What one step learns from, from its number alone."""
    generator = build_generator(config.schedule.seed, "denoiser", step)
    chosen = torch.randint(len(latents.captions), (config.schedule.batch,), generator=generator)
    shape = (len(chosen), *latents.mean.shape[1:])
    raw = latents.mean[chosen] + latents.std[chosen] * torch.randn(shape, generator=generator)
    dropped = (torch.rand(len(chosen), generator=generator) < config.caption_dropout).tolist()
    captions = ["" if drop else latents.captions[n] for n, drop in zip(chosen.tolist(), dropped, strict=True)]
    times = list(draw_times(len(chosen), family.process, generator))
    return Batch(codec.normalise(raw), captions, times, torch.randn(shape, generator=generator))


def compute_losses(model: TextToLatent, words: Words, family: Family, batch: Batch) -> Float[Tensor, " b"]:
    """The denoising loss of each sample."""
    process, times = family.process, batch.times
    alpha, sigma = (torch.tensor([part(t) for t in times])[:, None, None, None] for part in (process.alpha, process.sigma))
    timestep = torch.tensor([process.timestep(t) for t in times])
    noisy = add_noise(batch.clean, batch.noise, alpha, sigma)
    output = model.denoiser(noisy, timestep, model.text(words.to_numbers(batch.captions)))
    return denoising_loss(output, to_target(batch.clean, batch.noise, alpha, sigma, family.prediction))


def cache_latents(codec: Codec, config: DenoiserConfig, folder: Path, path: Path) -> Iterator[Progress]:
    """Encode every picture once. The file's name says which pictures and which encoder, so a change of either makes another file."""
    if path.exists():
        return
    pictures = read_pictures(config.pictures, folder)
    total = len(pictures.pixels)
    means: list[Tensor] = []
    stds: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, total, ENCODED):
            posterior = codec.network.encode(from_bytes(pictures.pixels[start : start + ENCODED]))
            means.append(posterior.mean)
            stds.append(posterior.std)
            yield Progress(task="latents", number=min(start + ENCODED, total), total=total)
    tensors = {"mean": torch.cat(means), "std": torch.cat(stds)}
    write_safetensors(path, tensors, {"captions": json.dumps(pictures.captions)}, overwrite=True)


def read_latents(path: Path) -> Latents:
    tensors = read_tensors(path)
    return Latents(tensors["mean"], tensors["std"], json.loads(read_safetensors_header(path).metadata["captions"]))


def write_model(path: Path, model: TextToLatent, codec: Codec, config: DenoiserConfig) -> None:
    """One file with everything a picture needs: `autoencoder.`, `denoiser.` and `text.` tensors in float16."""
    parts = {AUTOENCODER: codec.network, DENOISER: model.denoiser, TEXT: model.text}
    tensors = {f"{part}{name}": tensor.half() for part, network in parts.items() for name, tensor in network.state_dict().items()}
    metadata = {
        "eightfold.family": config.family,
        "eightfold.space": codec.space.name,
        **to_metadata(codec.normalisation),
    }
    write_safetensors(path, tensors, metadata, overwrite=True)
