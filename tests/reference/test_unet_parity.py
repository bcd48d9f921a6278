"""One step of the U-Net against the one of diffusers, on the same random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, UNet2DConditionModel
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D

from eightfold.denoisers.unet import EPS, UNet, to_vector
from eightfold.families.pocket import POCKET_FAMILY
from eightfold.families.sd1 import SD1
from eightfold.specs.network import UNetConfig, VectorConfig
from weights import draw, list_norms, randomise

TOLERANCE = 1e-4
TIMES = (437.25, 0.0)  # one a picture; the process's table has entries between which a step may fall
TWO = UNetConfig(channels=4, out_channels=4, context=24, width=32, multipliers=(1, 2), blocks=1, attention=(1, 1), heads=2, groups=8)
FOUR = UNetConfig(channels=4, out_channels=4, context=40, width=32, multipliers=(1, 2, 4, 4), heads=4, groups=16)

VECTOR = VectorConfig(pooled=20, numbers=("height", "width", "left"), sinusoid=8)

CONFIGS = {
    "two": TWO,
    "two, linear": replace(TWO, linear_projection=True),
    "two, depth 2": replace(TWO, attention=(2, 2), middle=2),
    "two, depths 1 and 2, linear": replace(TWO, attention=(1, 2), middle=2, linear_projection=True),
    "two, attention above": replace(TWO, attention=(1, 0)),
    "two, attention below": replace(TWO, attention=(0, 1), blocks=2),
    "two, attention in the middle": replace(TWO, attention=(0, 0)),
    "two, no middle attention": replace(TWO, middle=0),
    "two, no attention": replace(TWO, attention=(0, 0), middle=0),
    "two, heads of 16": replace(TWO, heads=None, head_width=16),
    "two, one head": replace(TWO, heads=None),
    "two, same width": replace(TWO, width=64, multipliers=(1, 1)),
    "two, 9 channels": replace(TWO, channels=9),
    "two, 8 channels out": replace(TWO, out_channels=8),
    "three, heads of 8": replace(TWO, multipliers=(1, 2, 3), attention=(0, 1, 1), heads=None, head_width=8, blocks=2),
    "four": FOUR,
    "four, heads of 16, linear": replace(FOUR, heads=None, head_width=16, linear_projection=True),
    "pocket": POCKET_FAMILY.denoiser,
    "three, a vector": replace(
        TWO, multipliers=(1, 2, 4), attention=(0, 1, 2), middle=2, heads=None, head_width=16, linear_projection=True, vector=VECTOR
    ),
    "four, a vector": replace(FOUR, attention=(0, 2, 2, 0), middle=2, vector=VECTOR),
    "two, guidance": replace(TWO, guidance=16),
}
SIZES = {"even": (2, 8, 16), "odd": (1, 9, 7), "uneven": (1, 11, 6), "one pixel": (1, 1, 1)}  # batch, height, width


def to_block_types(config: UNetConfig) -> dict[str, tuple[str, ...]]:
    down = tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in config.attention)
    up = tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(config.attention))
    return {"down_block_types": down, "up_block_types": up}


def build_theirs(config: UNetConfig) -> UNet2DConditionModel:
    """Their `attention_head_dim` is the number of heads, whatever it is called; the depth of the middle is that of the last level."""
    widths = [config.width * multiplier for multiplier in config.multipliers]
    theirs = UNet2DConditionModel(
        in_channels=config.channels,
        out_channels=config.out_channels,
        **to_block_types(config),
        block_out_channels=tuple(widths),
        layers_per_block=config.blocks,
        norm_num_groups=config.groups,
        cross_attention_dim=config.context,
        transformer_layers_per_block=(*config.attention[:-1], config.middle or config.attention[-1] or 1),
        addition_embed_type="text_time" if config.vector else None,
        addition_time_embed_dim=config.vector.sinusoid if config.vector else None,
        projection_class_embeddings_input_dim=config.vector.width if config.vector else None,
        attention_head_dim=tuple(config.heads or width // (config.head_width or width) for width in widths),
        use_linear_projection=config.linear_projection,
        time_cond_proj_dim=config.guidance,
    )
    if not config.middle:  # their configuration has no word for two residual blocks and nothing between them
        theirs.mid_block = UNetMidBlock2D(
            in_channels=widths[-1], temb_channels=4 * config.width, resnet_eps=EPS, resnet_groups=config.groups, add_attention=False
        )
    return theirs


def draw_vector(config: UNetConfig, batch: int) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
    """What SDXL is told beside tokens: ours, and the same for theirs."""
    if config.vector is None:
        return None, {}
    pooled, numbers = draw(batch, config.vector.pooled, seed=4), {name: 100.0 * i for i, name in enumerate(config.vector.numbers)}
    times = torch.tensor([list(numbers.values())] * batch)
    return to_vector(config.vector, pooled, numbers), {"text_embeds": pooled, "time_ids": times}


def draw_guidance(config: UNetConfig, batch: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The scale that a distilled network is told: ours, and as theirs embed it."""
    if config.guidance is None:
        return None, None
    scale = torch.tensor([7.5, 2.0])[:batch]
    return scale, LatentConsistencyModelPipeline.get_guidance_scale_embedding(cast(Any, None), scale - 1, config.guidance)


@torch.no_grad()
def compare(config: UNetConfig, size: tuple[int, int, int]) -> float:
    """The largest difference, of outputs that vary and have a size of about 1."""
    with torch.device("meta"):
        theirs = build_theirs(config)
    ours = randomise(UNet(config), seed=2)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    batch, height, width = size
    noisy, timestep = draw(batch, config.channels, height, width), torch.tensor(TIMES[:batch])
    tokens = draw(batch, 5, config.context, seed=3) if any(config.attention) or config.middle else None
    vector, added = draw_vector(config, batch)
    guidance, condition = draw_guidance(config, batch)
    got = ours(noisy, timestep, tokens, vector, guidance=guidance)
    expected = theirs.eval()(noisy, timestep, tokens, timestep_cond=condition, added_cond_kwargs=added).sample
    assert got.shape == expected.shape == (batch, config.out_channels, height, width)
    assert 0.05 < expected.std() < 20
    return (got - expected).abs().max().item()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_step(config, size):
    assert compare(config, size) < TOLERANCE


@pytest.mark.parametrize("config", [*CONFIGS.values(), SD1.denoiser], ids=[*CONFIGS, "sd1"])
def test_norms(config):
    """Groups and epsilons agree one by one; the difference between 1e-5 and 1e-6 drowns in the tolerance above."""
    with torch.device("meta"):
        ours, theirs = UNet(config), build_theirs(config)
    assert list_norms(ours) == list_norms(theirs)


@pytest.mark.long
@pytest.mark.parametrize("size", [(1, 8, 16), (1, 9, 7)], ids=["even", "odd"])
@pytest.mark.parametrize("channels", [4, 9])
def test_stable_diffusion_step(channels, size):
    assert compare(replace(SD1.denoiser, channels=channels), size) < TOLERANCE
