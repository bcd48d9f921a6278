"""The autoencoder of FLUX.2 and its normalisation against diffusers, on the same random weights."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLFlux2
from einops import rearrange

from eightfold.autoencoders.flux2 import Flux2Autoencoder
from eightfold.codec.load import build_codec
from eightfold.families.spaces import FLUX2
from eightfold.specs.network import Flux2Config
from eightfold.specs.space import Packing, Space, Statistics
from weights import draw, list_norms, randomise

TOLERANCE = 1e-4
TOY = Flux2Config(channels=4, width=16, decoder_width=16, multipliers=(1, 2), blocks=1, groups=8)
CONFIGS = {
    "two": TOY,
    "narrow decoder": Flux2Config(channels=4, width=16, decoder_width=8, multipliers=(1, 2, 2), blocks=2, groups=4),
    "four": Flux2Config(channels=8, width=8, decoder_width=8, multipliers=(1, 2, 4, 4), groups=4),
}


def build_theirs(config: Flux2Config) -> AutoencoderKLFlux2:
    widths = [tuple(width * multiplier for multiplier in config.multipliers) for width in (config.width, config.decoder_width)]
    return AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * len(config.multipliers),
        up_block_types=("UpDecoderBlock2D",) * len(config.multipliers),
        block_out_channels=widths[0],
        decoder_block_out_channels=None if widths[0] == widths[1] else widths[1],
        layers_per_block=config.blocks,
        latent_channels=config.channels,
        norm_num_groups=config.groups,
    )


def build_pair(config: Flux2Config) -> tuple[Flux2Autoencoder, AutoencoderKLFlux2]:
    """Ours with random weights and statistics, and theirs with the very same tensors; the names have to agree."""
    ours = randomise(Flux2Autoencoder(config), seed=1)
    count = config.channels * config.patch**2
    ours.bn.running_mean.copy_(draw(count, seed=2))
    ours.bn.running_var.copy_(draw(count, seed=3).square() + 0.1)
    theirs = build_theirs(config)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs.eval()


def measure(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == torch.float32
    assert 0.05 < theirs.std() < 20
    return (ours - theirs).abs().max().item()


@torch.no_grad()
def compare(config: Flux2Config, height: int, width: int) -> dict[str, float]:
    ours, theirs = build_pair(config)
    image = draw(1, 3, height, width).clamp(-1, 1)
    got, expected = ours.encode(image), theirs.encode(image).latent_dist
    raw = draw(1, config.channels, height // config.downscale, width // config.downscale, seed=5)
    found = {"mean": measure(got.mean, expected.mean), "std": measure(got.std, expected.std)}
    return found | {"image": measure(ours.decode(raw), theirs.decode(raw).sample)}


@pytest.mark.parametrize("size", [(24, 16), (27, 19)], ids=["even", "odd"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_encode_and_decode(config, size):
    found = compare(config, *size)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("config", [*CONFIGS.values(), Flux2Config()], ids=[*CONFIGS, "public"])
def test_norms(config):
    with torch.device("meta"):
        ours, theirs = Flux2Autoencoder(config), build_theirs(config)
    assert list_norms(ours) == list_norms(theirs)


@torch.no_grad()
def test_the_normalisation_is_their_batch_norm():
    """Cells are packed in the order channel, row, column, as their pipeline does, and then go through the batch norm that they keep."""
    ours, theirs = build_pair(TOY)
    space = Space(name="toy", autoencoder=TOY, normalisation=FLUX2.normalisation, packing=FLUX2.packing)
    codec = build_codec(ours.state_dict(), {}, space=space, source="toy")
    raw = draw(2, 4, 6, 10)
    latent = codec.normalise(raw)
    expected = theirs.bn(rearrange(raw, "b c (h i) (w j) -> b (c i j) h w", i=2, j=2))
    assert latent.shape == (2, 16, 3, 5) and measure(latent, expected) < 1e-5
    assert measure(codec.denormalise(latent), raw) < 1e-5
    assert isinstance(FLUX2.normalisation, Statistics) and theirs.bn.eps == FLUX2.normalisation.eps and FLUX2.packing == Packing(side=2)


@pytest.mark.long
@pytest.mark.parametrize("config", [Flux2Config(), Flux2Config(decoder_width=96)], ids=["public", "small decoder"])
def test_the_public_width(config):
    found = compare(config, 72, 56)
    assert max(found.values()) < TOLERANCE, found
