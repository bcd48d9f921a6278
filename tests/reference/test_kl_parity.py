"""The KL autoencoder against the one of diffusers, on the same random weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.families.spaces import FLUX1, POCKET, SD
from eightfold.specs.network import KLConfig
from weights import draw, list_norms, randomise

TOLERANCE = 1e-4
TWO = KLConfig(channels=4, width=16, multipliers=(1, 2), blocks=1, groups=8)
THREE = KLConfig(channels=4, width=16, multipliers=(1, 1, 2), blocks=2, groups=8)
FOUR = KLConfig(channels=16, width=8, multipliers=(1, 2, 4, 4), blocks=2, groups=4, quant_convs=False)

CONFIGS = {
    "two": TWO,
    "two, no quant convs": replace(TWO, quant_convs=False),
    "two, no attention": replace(TWO, middle_attention=False),
    "two, neither": replace(TWO, middle_attention=False, quant_convs=False),
    "two, 16 channels": replace(TWO, channels=16, blocks=2),
    "two, same width": replace(TWO, multipliers=(2, 2)),  # no shortcut anywhere
    "two, narrower below": replace(TWO, multipliers=(2, 1)),
    "three": THREE,
    "three, 16 channels, no quant convs": replace(THREE, channels=16, quant_convs=False),
    "four": FOUR,
    "pocket": POCKET.autoencoder,
}
SIZES = {"even": (2, 24, 16), "odd": (1, 27, 19), "uneven": (1, 22, 13)}  # batch, height, width
LATENTS = {"even": (2, 6, 4), "odd": (1, 5, 3), "one pixel": (1, 1, 1)}


def build_theirs(config: KLConfig) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(config.multipliers),
        up_block_types=("UpDecoderBlock2D",) * len(config.multipliers),
        block_out_channels=tuple(config.width * multiplier for multiplier in config.multipliers),
        layers_per_block=config.blocks,
        latent_channels=config.channels,
        norm_num_groups=config.groups,
        mid_block_add_attention=config.middle_attention,
        use_quant_conv=config.quant_convs,
        use_post_quant_conv=config.quant_convs,
    )


def build_pair(config: KLConfig) -> tuple[KLAutoencoder, AutoencoderKL]:
    """Ours with random weights, and theirs with the very same tensors; the names have to agree."""
    with torch.device("meta"):
        theirs = build_theirs(config)
    ours = randomise(KLAutoencoder(config), seed=1)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    return ours, theirs.eval()


def measure(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, of outputs that vary and have a size of about 1."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == torch.float32
    assert 0.05 < theirs.std() < 20
    return (ours - theirs).abs().max().item()


@torch.no_grad()
def compare_encode(config: KLConfig, size: tuple[int, int, int]) -> dict[str, float]:
    ours, theirs = build_pair(config)
    image = draw(size[0], 3, *size[1:]).clamp(-1, 1)
    got, expected = ours.encode(image), theirs.encode(image).latent_dist
    return {"mean": measure(got.mean, expected.mean), "std": measure(got.std, expected.std)}


@torch.no_grad()
def compare_decode(config: KLConfig, size: tuple[int, int, int]) -> dict[str, float]:
    ours, theirs = build_pair(config)
    raw = draw(size[0], config.channels, *size[1:])
    return {"image": measure(ours.decode(raw), theirs.decode(raw).sample)}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_encode(config, size):
    found = compare_encode(config, size)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("size", LATENTS.values(), ids=LATENTS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_decode(config, size):
    found = compare_decode(config, size)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("config", [*CONFIGS.values(), SD.autoencoder], ids=[*CONFIGS, "sd"])
def test_norms(config):
    """Groups and epsilons agree one by one; the difference between 1e-5 and 1e-6 drowns in the tolerance above."""
    with torch.device("meta"):
        ours, theirs = KLAutoencoder(config), build_theirs(config)
    assert list_norms(ours) == list_norms(theirs)


@pytest.mark.long
@pytest.mark.parametrize("size", [(1, 72, 104), (1, 61, 47)], ids=["even", "odd"])
def test_stable_diffusion_encode(size):
    found = compare_encode(SD.autoencoder, size)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.long
def test_flux_1_and_stable_diffusion_3():
    found = compare_encode(FLUX1.autoencoder, (1, 61, 47)) | compare_decode(FLUX1.autoencoder, (1, 9, 7))
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.long
@pytest.mark.parametrize("size", [(1, 10, 12), (1, 9, 7)], ids=["even", "odd"])
def test_stable_diffusion_decode(size):
    found = compare_decode(SD.autoencoder, size)
    assert max(found.values()) < TOLERANCE, found
