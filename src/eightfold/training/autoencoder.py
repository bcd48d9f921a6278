"""Training an autoencoder: L1, squared error, KL and a gradient term over several scales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..autoencoders.kl import KLAutoencoder
from ..autoencoders.posterior import Posterior
from ..checkpoints.save import write_safetensors
from ..codec.normalisation import to_metadata
from ..codec.pixels import from_bytes
from ..core.errors import ConfigError, UnknownName
from ..core.progress import Progress
from ..core.rng import build_generator
from ..data.pictures import VERSION, Pictures, draw_pictures, read_pictures
from ..families.spaces import SPACES
from ..specs.network import KLConfig
from ..specs.space import Normalisation
from .config import AutoencoderConfig
from .loop import open_run, run_training, seeded
from .passthrough import pass_through

WEIGHTS = "autoencoder.safetensors"
MEASURED = 512  # pictures that the normalisation is measured on


def train_autoencoder(config: AutoencoderConfig, folder: Path, *, resume: bool = False) -> Iterator[Progress]:
    """Draw the pictures, train, measure the latents' normalisation and write `autoencoder.safetensors` into `folder`."""
    spaces = {space.name: space for space in SPACES}
    if config.space not in spaces:
        raise UnknownName("space", config.space, spaces)
    space = spaces[config.space]
    network = space.autoencoder
    if not isinstance(network, KLConfig):
        trained = ", ".join(one.name for one in SPACES if isinstance(one.autoencoder, KLConfig))
        raise ConfigError(f"the autoencoder of space {space.name} cannot be trained here", hint=f"spaces whose can: {trained}")
    wrong = [crop for crop in config.crops if crop % space.downscale]
    if wrong:
        raise ConfigError(f"a crop of {wrong[0]} is no multiple of {space.downscale}, the downscale of {space.name}", hint="crops = [64]")
    settings = {"stage": "autoencoder", "renderer": VERSION, "network": asdict(network), **asdict(config)}
    run = open_run(folder, WEIGHTS, settings, resume=resume)
    yield from draw_pictures(config.pictures, folder)
    pictures = read_pictures(config.pictures, folder)
    with seeded(config.schedule.seed):
        model = KLAutoencoder(network)
    pass_through(model)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        image, noise = draw_batch(pictures, config, model.config.channels, model.config.downscale, step)
        posterior = model.encode(image)
        return autoencoder_loss(image, model.decode(to_raw(posterior, noise, config)), posterior, config)

    yield from run_training(model, loss, config.schedule, run)
    metadata = {"eightfold.space": config.space, **to_metadata(measure_normalisation(model, pictures))}
    write_safetensors(folder / WEIGHTS, model.state_dict(), metadata, overwrite=True)


def draw_batch(pictures: Pictures, config: AutoencoderConfig, channels: int, downscale: int, step: int) -> tuple[Tensor, Tensor]:
    """Crops and posterior noise of one step, from its number alone."""
    generator = build_generator(config.schedule.seed, "autoencoder", step)
    crop = config.crops[step % len(config.crops)]
    count = max(1, round(config.schedule.batch * (config.crops[0] / crop) ** 2))
    chosen = torch.randint(len(pictures.pixels), (count,), generator=generator).tolist()
    room = config.pictures.size - crop + 1
    corners = torch.randint(room, (count, 2), generator=generator).tolist()
    flips = torch.randint(2, (count,), generator=generator).tolist()
    parts = [pictures.pixels[n, :, top : top + crop, left : left + crop] for n, (top, left) in zip(chosen, corners, strict=True)]
    parts = [part.flip(-1) if flip else part for part, flip in zip(parts, flips, strict=True)]
    noise = torch.randn((count, channels, crop // downscale, crop // downscale), generator=generator)
    return from_bytes(torch.stack(parts)), noise


def to_raw(posterior: Posterior, noise: Float[Tensor, "b c h w"], config: AutoencoderConfig) -> Float[Tensor, "b c h w"]:
    """What the decoder is trained on: a draw from the posterior, or for a plain autoencoder (`kl` of 0) its mode."""
    return posterior.sample(noise) if config.kl else posterior.mode


def autoencoder_loss(image: Tensor, decoded: Tensor, posterior: Posterior, config: AutoencoderConfig) -> tuple[Tensor, dict[str, float]]:
    l1 = F.l1_loss(decoded, image)
    squared = F.mse_loss(decoded, image)
    gradient = gradient_loss(decoded, image)
    kl = kl_divergence(posterior)
    total = l1 + config.squared * squared + config.gradient * gradient + config.kl * kl
    return total, {"l1": l1.item(), "squared": squared.item(), "gradient": gradient.item(), "kl": kl.item()}


def gradient_loss(decoded: Float[Tensor, "b c h w"], image: Float[Tensor, "b c h w"], scales: int = 3) -> Float[Tensor, ""]:
    """L1 between the differences of neighbouring pixels, at full size and at each halving; the sum over scales."""
    total = decoded.new_zeros(())
    error = decoded - image  # differences and means are linear: one tensor is enough
    for scale in range(scales):
        if scale:
            error = F.avg_pool2d(error, 2)
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return total


def kl_divergence(posterior: Posterior) -> Float[Tensor, ""]:
    """KL from the posterior to N(0, 1), in nats, mean over latent numbers (arXiv 1312.6114, appendix B)."""
    variance = posterior.std**2
    return 0.5 * (posterior.mean**2 + variance - 1 - variance.log()).mean()


@torch.no_grad()
def measure_normalisation(model: KLAutoencoder, pictures: Pictures) -> Normalisation:
    """What makes the raw latents of the training pictures zero-mean and unit-variance, channel by channel."""
    picked = range(0, len(pictures.pixels), max(1, len(pictures.pixels) // MEASURED))
    means = torch.cat([model.encode(from_bytes(pictures.pixels[n : n + 1])).mean for n in picked])
    shift, std = means.mean(dim=(0, 2, 3)), means.std(dim=(0, 2, 3))
    return Normalisation(scale=tuple((1 / std).tolist()), shift=tuple(shift.tolist()))
