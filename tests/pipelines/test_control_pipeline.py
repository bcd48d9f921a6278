"""ControlNets from files, and what several of them say together at a step."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from controlfiles import build_toy, to_config, to_toy
from eightfold.checkpoints.convert import to_original
from eightfold.codec.padding import pad_to_multiple
from eightfold.codec.pixels import Picture
from eightfold.core.device import choose_placement
from eightfold.core.errors import CheckpointError, RequestError, UnknownCheckpoint, WeightMismatch
from eightfold.denoisers.control import ControlNet
from eightfold.families.keymaps.control import SD_CONTROL
from eightfold.families.pocket import POCKET_FAMILY
from eightfold.families.sd1 import SD1
from eightfold.families.sd2 import SD2
from eightfold.families.sdxl import SDXL_FAMILY
from eightfold.pipelines.control import Control, load_control, sum_controls, to_hint, warn_of_controls, warn_of_stretch
from eightfold.specs.family import Family
from weights import draw, randomise

CPU = choose_placement("cpu")
TIME = torch.tensor([321.5])
TOKENS = 768


def to_toy_family(family: Family) -> Family:
    return replace(family, denoiser=to_toy(family.denoiser))


@pytest.fixture(scope="module")
def net() -> ControlNet:
    return randomise(ControlNet(to_config(SD1, toy=True)), seed=1)


@pytest.fixture(scope="module")
def other() -> ControlNet:
    return randomise(ControlNet(to_config(SD1, toy=True)), seed=2)


def draw_hint(seed: int = 3) -> Tensor:
    return draw(1, 3, 64, 64, seed=seed).sigmoid()


@torch.no_grad()
def add_up(*controls: Control, step: int = 0, steps: int = 1, batch: int = 1) -> list[Tensor] | None:
    noisy, tokens = draw(1, 4, 8, 8).expand(batch, -1, -1, -1), draw(1, 5, TOKENS, seed=6).expand(batch, -1, -1)
    found = sum_controls(controls, noisy, TIME.expand(batch), tokens, step=step, steps=steps)
    return None if found is None else [*found.skips, found.middle]


def are_close(found: list[Tensor] | None, expected: list[Tensor]) -> bool:
    return found is not None and all(torch.allclose(one, two, rtol=0, atol=1e-4) for one, two in zip(found, expected, strict=True))


def test_what_they_say_is_added_by_weight(net: ControlNet, other: ControlNet) -> None:
    first, second = add_up(Control(net=net, hint=draw_hint())), add_up(Control(net=other, hint=draw_hint(4)))
    assert first is not None and second is not None
    assert min(one.std() for one in (*first, *second)) > 0.05
    both = add_up(Control(net=net, hint=draw_hint(), weight=0.5), Control(net=other, hint=draw_hint(4), weight=-2.0))
    assert are_close(both, [0.5 * one - 2 * two for one, two in zip(first, second, strict=True)])


def test_one_picture_is_enough_for_all_prompts(net: ControlNet) -> None:
    one, three = (add_up(Control(net=net, hint=draw_hint()), batch=batch) for batch in (1, 3))
    assert one is not None
    assert are_close(three, [part.expand(3, -1, -1, -1) for part in one])


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 20])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.0, 0.3), (0.3, 1.0), (0.1, 0.7), (0.25, 0.5), (0.45, 0.55)])
def test_the_interval_is_that_of_diffusers(net: ControlNet, steps: int, start: float, end: float) -> None:
    """StableDiffusionControlNetPipeline keeps step i of n unless i / n < start or (i + 1) / n > end."""
    control = Control(net=net, hint=draw_hint(), start=start, end=end)
    assert [control.speaks(step, steps) for step in range(steps)] == [
        not (step / steps < start or (step + 1) / steps > end) for step in range(steps)
    ]


def test_intervals_that_touch_share_no_step(net: ControlNet) -> None:
    cuts = (0.0, 0.3, 0.7, 1.0)
    controls = [Control(net=net, hint=draw_hint(), start=start, end=end) for start, end in pairwise(cuts)]
    for steps in (10, 20, 30):
        assert all(sum(control.speaks(step, steps) for control in controls) == 1 for step in range(steps))


def test_outside_of_its_interval_it_costs_nothing(net: ControlNet, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"show": 0, "forward": 0}
    for name in calls:
        plain = getattr(ControlNet, name)

        def count(*given: Tensor, name: str = name, plain=plain) -> object:
            calls[name] += 1
            return plain(*given)

        monkeypatch.setattr(ControlNet, name, count)
    late, never = Control(net=net, hint=draw_hint(), start=0.5), Control(net=net, hint=draw_hint(), weight=0)
    assert add_up(late, never, step=0, steps=4) is None
    assert add_up(late, never, step=1, steps=4) is None
    assert calls == {"show": 0, "forward": 0}
    assert add_up(late, never, step=2, steps=4) is not None
    assert add_up(late, never, step=3, steps=4) is not None
    assert calls == {"show": 1, "forward": 2}  # the picture is looked at once


def test_who_says_nothing_is_named(net: ControlNet) -> None:
    loud = Control(net=net, hint=draw_hint())
    assert warn_of_controls([loud], 4) == ()
    quiet = [loud, replace(loud, start=0.1, end=0.3), replace(loud, weight=0)]
    assert warn_of_controls(quiet, 4) == (
        "control 2 says nothing in 4 steps: weight 1, from 0.1 to 0.3",
        "control 3 says nothing in 4 steps: weight 0, from 0 to 1",
    )
    assert warn_of_controls(quiet[:2], 10) == ()


@pytest.mark.parametrize("given", [{"start": 0.5, "end": 0.5}, {"start": -0.1}, {"end": 1.1}, {"start": math.nan}, {"weight": math.inf}])
def test_numbers_out_of_range(net: ControlNet, given: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="control"):
        Control(net=net, hint=draw_hint(), **given)


@pytest.mark.parametrize(("width", "height"), [(64, 40), (37, 61), (1, 1)])
def test_a_picture_lies_over_the_latent_as_the_codec_pads_it(width: int, height: int, net: ControlNet) -> None:
    picture = Picture(draw(1, 3, height, width).tanh())
    hint = to_hint(picture, width, height, 8)
    assert torch.allclose(hint, (pad_to_multiple(picture.image, 8)[0] + 1) / 2)
    assert Control(net=net, hint=hint).shown.shape[-2:] == (-(-height // 8), -(-width // 8))
    larger = to_hint(picture, 96, 80, 8)
    assert larger.shape == (1, 3, 80, 96) and larger.min() >= 0 and larger.max() <= 1


def test_a_picture_of_another_shape_is_named() -> None:
    picture = Picture(torch.zeros(1, 3, 100, 200), source="pose.png")
    assert warn_of_stretch(picture, 512, 256) == ()
    assert warn_of_stretch(picture, 512, 512) == ("pose.png is 200x100: stretched to 512x512",)


@pytest.mark.parametrize("original", [False, True], ids=["diffusers", "original"])
@pytest.mark.parametrize("family", [SD1, SD2, SDXL_FAMILY], ids=lambda family: family.name)
def test_a_file_in_either_layout(family: Family, original: bool, tmp_path: Path) -> None:
    tensors, path = build_toy(family), tmp_path / "control.safetensors"
    save_file({f"control_model.{name}": tensor for name, tensor in to_original(tensors, SD_CONTROL).items()} if original else tensors, path)
    loaded = load_control(path, family=to_toy_family(family), placement=CPU)
    assert all(tensor.equal(tensors[name]) for name, tensor in loaded.state_dict().items())
    assert not loaded.training and not any(weight.requires_grad for weight in loaded.parameters())


def test_for_an_inpainting_model_it_is_the_same(tmp_path: Path) -> None:
    save_file(build_toy(SD1), tmp_path / "control.safetensors")
    family = to_toy_family(SD1)
    inpaint = replace(family, denoiser=replace(family.denoiser, channels=9))
    assert load_control(tmp_path / "control.safetensors", family=inpaint, placement=CPU).conv_in.in_channels == 4


def test_another_family_or_width_is_refused_with_both(tmp_path: Path) -> None:
    path = tmp_path / "control.safetensors"
    save_file(build_toy(SD1), path)
    own = "for sd1 (32 channels, text of 768 numbers a token)"
    refused = {
        f"{own}, and the model is sd1 (320 channels, text of 768 numbers a token)": SD1,
        f"{own}, and the model is sd2 (32 channels, text of 1024 numbers a token)": to_toy_family(SD2),
        "and the model is sdxl (32 channels, text of 2048 numbers a token, a vector of 2816)": to_toy_family(SDXL_FAMILY),
        f"{own}, and the model is lantern (32 channels, text of 768 numbers a token)": replace(to_toy_family(SD1), name="lantern"),
        "and the model is pocket": POCKET_FAMILY,
    }
    for message, family in refused.items():
        with pytest.raises(CheckpointError) as caught:
            load_control(path, family=family, placement=CPU)
        assert message in str(caught.value)
        assert caught.value.hint == f"name a ControlNet that was made for {family.name}"


def test_the_refiner_has_none(tmp_path: Path) -> None:
    save_file(build_toy(SDXL_FAMILY), tmp_path / "control.safetensors")
    with pytest.raises(CheckpointError, match=r"text of 2048.*and the model is sdxl \(384 channels, text of 1280"):
        load_control(tmp_path / "control.safetensors", family=SDXL_FAMILY.to_edition("refiner"), placement=CPU)


def test_what_is_no_control(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({f"vae.{name}": torch.zeros(2) for name in ("a", "b")}, path)
    with pytest.raises(UnknownCheckpoint, match="has no ControlNet that is known; it has: autoencoder"):
        load_control(path, family=SD1, placement=CPU)
    tensors = build_toy(SD1)
    del tensors["controlnet_down_blocks.3.bias"]
    save_file(tensors, path)
    with pytest.raises(WeightMismatch, match=r"1 missing \(controlnet_down_blocks\.3\.bias\)"):
        load_control(path, family=to_toy_family(SD1), placement=CPU)
