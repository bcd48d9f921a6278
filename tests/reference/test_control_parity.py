"""ControlNets, and the U-Net with what they add, against those of diffusers, on the same random weights."""

from __future__ import annotations

import pytest
import torch
from diffusers import ControlNetModel, MultiControlNetModel
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2DCrossAttn
from test_unet_parity import CONFIGS, TIMES, TOLERANCE, build_theirs, draw_vector

from eightfold.denoisers.control import ControlNet
from eightfold.denoisers.unet import EPS, ControlResiduals, UNet
from eightfold.families.sd1 import SD1
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.pipelines.control import Control, sum_controls
from eightfold.specs.control import ControlConfig
from eightfold.specs.network import UNetConfig
from weights import draw, list_norms, randomise

STEM = (4, 6, 8, 10)
CHOSEN = ("two", "two, linear", "four", "four, heads of 16, linear", "three, a vector", "four, a vector")
CONTROLS = {name: ControlConfig(unet=CONFIGS[name], stem=STEM) for name in CHOSEN}
SIZES = {"even": (2, 8, 16), "odd": (1, 9, 7)}  # batch, height and width of the latent


def build_their_control(config: ControlConfig) -> ControlNetModel:
    unet = config.unet
    widths = [unet.width * multiplier for multiplier in unet.multipliers]
    heads = tuple(unet.to_heads(width) for width in widths)
    theirs = ControlNetModel(
        in_channels=unet.channels,
        conditioning_channels=config.hint_channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in unet.attention),
        block_out_channels=tuple(widths),
        layers_per_block=unet.blocks,
        norm_num_groups=unet.groups,
        cross_attention_dim=unet.context,
        transformer_layers_per_block=tuple(depth or 1 for depth in unet.attention),
        attention_head_dim=heads,
        use_linear_projection=unet.linear_projection,
        addition_embed_type="text_time" if unet.vector else None,
        addition_time_embed_dim=unet.vector.sinusoid if unet.vector else None,
        projection_class_embeddings_input_dim=unet.vector.width if unet.vector else None,
        conditioning_embedding_out_channels=config.stem,
    )
    theirs.mid_block = UNetMidBlock2DCrossAttn(  # theirs takes the depth of the last level, which may have none
        in_channels=widths[-1],
        temb_channels=4 * unet.width,
        transformer_layers_per_block=unet.middle,
        resnet_eps=EPS,
        resnet_groups=unet.groups,
        cross_attention_dim=unet.context,
        num_attention_heads=heads[-1],
        use_linear_projection=unet.linear_projection,
    )
    return theirs


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", CONTROLS)
@torch.no_grad()
def test_what_is_added(name: str, size: tuple[int, int, int]) -> None:
    """Every residual of theirs, at a size of about 1, under the same names."""
    config = CONTROLS[name]
    with torch.device("meta"):
        theirs = build_their_control(config)
    ours = randomise(ControlNet(config), seed=2)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    batch, height, width = size
    noisy, timestep = draw(batch, config.unet.channels, height, width), torch.tensor(TIMES[:batch])
    tokens, hint = draw(batch, 5, config.unet.context, seed=3), draw(batch, 3, 8 * height, 8 * width, seed=5).sigmoid()
    vector, added = draw_vector(config.unet, batch)
    got = ours(noisy, timestep, ours.show(hint), tokens, vector)
    skips, middle = theirs.eval()(noisy, timestep, tokens, hint, added_cond_kwargs=added, return_dict=False)
    assert len(got.skips) == len(skips)
    for one, expected in zip((*got.skips, got.middle), (*skips, middle), strict=True):
        assert one.shape == expected.shape
        assert 0.05 < expected.std() < 20
        assert (one - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", ["two", "four, heads of 16, linear", "three, a vector"])
@torch.no_grad()
def test_the_unet_takes_it(name: str, size: tuple[int, int, int]) -> None:
    config = CONFIGS[name]
    with torch.device("meta"):
        theirs = build_theirs(config)
    ours = randomise(UNet(config), seed=2)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    batch, height, width = size
    noisy, timestep, tokens = (
        draw(batch, config.channels, height, width),
        torch.tensor(TIMES[:batch]),
        draw(batch, 5, config.context, seed=3),
    )
    vector, told = draw_vector(config, batch)
    residuals = draw_residuals(config, noisy)
    got = ours(noisy, timestep, tokens, vector, residuals)
    expected = theirs.eval()(
        noisy,
        timestep,
        tokens,
        added_cond_kwargs=told,
        down_block_additional_residuals=residuals.skips,
        mid_block_additional_residual=residuals.middle,
    ).sample
    assert (got - expected).abs().max() < TOLERANCE
    assert (got - ours(noisy, timestep, tokens, vector)).abs().max() > 0.1


def draw_residuals(config: UNetConfig, noisy: torch.Tensor) -> ControlResiduals:
    """Random ones, each in the shape of what it is added to."""
    control = randomise(ControlNet(ControlConfig(unet=config, stem=STEM)), seed=4)
    tokens, (vector, _) = draw(len(noisy), 5, config.context, seed=6), draw_vector(config, len(noisy))
    shown = control.show(draw(len(noisy), 3, 8 * noisy.shape[-2], 8 * noisy.shape[-1], seed=7))
    shapes = control(noisy, torch.tensor(TIMES[: len(noisy)]), shown, tokens, vector)
    skips = tuple(draw(*skip.shape, seed=10 + number) for number, skip in enumerate(shapes.skips))
    return ControlResiduals(skips, draw(*shapes.middle.shape, seed=9))


@pytest.mark.parametrize("family", [SD1, SDXL_FAMILY], ids=lambda family: family.name)
def test_the_public_ones(family) -> None:
    """Names, shapes, groups and epsilons at full width, in the stem of the papers' code."""
    config = ControlConfig(unet=family.denoiser)
    with torch.device("meta"):
        ours, theirs = ControlNet(config), ControlNetModel(**to_public(config))
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: tensor.shape for name, tensor in theirs.state_dict().items()
    }
    assert list_norms(ours) == list_norms(theirs)


def to_public(config: ControlConfig) -> dict[str, object]:
    """What matters in the config.json of lllyasviel/control_v11p_sd15_canny, or of diffusers/controlnet-canny-sdxl-1.0."""
    if config.unet.vector is None:
        return {"cross_attention_dim": 768, "attention_head_dim": 8}
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "attention_head_dim": [5, 10, 20],
        "block_out_channels": [320, 640, 1280],
        "cross_attention_dim": 2048,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "projection_class_embeddings_input_dim": 2816,
        "transformer_layers_per_block": [1, 2, 10],
        "use_linear_projection": True,
    }


@torch.no_grad()
def test_one_that_was_not_trained_adds_nothing() -> None:
    config = CONTROLS["two"]
    control = ControlNet(config)
    residuals = control(
        draw(1, 4, 8, 8), torch.tensor(TIMES[:1]), control.show(draw(1, 3, 64, 64)), draw(1, 5, config.unet.context, seed=3)
    )
    assert all(not one.any() for one in (*residuals.skips, residuals.middle))


@torch.no_grad()
def test_several_by_weight() -> None:
    """MultiControlNetModel, each with its own picture and scale."""
    config = CONTROLS["two"]
    nets = [randomise(ControlNet(config), seed=seed) for seed in (2, 3)]
    theirs = []
    for net in nets:
        with torch.device("meta"):
            theirs.append(build_their_control(config))
        theirs[-1].load_state_dict(net.state_dict(), strict=True, assign=True)
    hints = [draw(1, 3, 64, 64, seed=seed).sigmoid() for seed in (5, 6)]
    noisy, time, tokens = draw(2, 4, 8, 8), torch.tensor(TIMES), draw(2, 5, config.unet.context, seed=3)
    both = [hint.expand(2, -1, -1, -1) for hint in hints]
    skips, middle = MultiControlNetModel(theirs).eval()(noisy, time, tokens, both, [0.7, 1.3], return_dict=False)
    controls = [Control(net=net, hint=hint, weight=weight) for net, hint, weight in zip(nets, hints, (0.7, 1.3), strict=True)]
    got = sum_controls(controls, noisy, time, tokens, step=0, steps=1)
    assert got is not None
    for one, expected in zip((*got.skips, got.middle), (*skips, middle), strict=True):
        assert (one - expected).abs().max() < TOLERANCE
