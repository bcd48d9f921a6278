"""ControlNets at work: their files, the pictures that they are shown, and what several of them say at a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..checkpoints.components import WHOLE
from ..checkpoints.convert import to_diffusers
from ..checkpoints.entries import Inventory
from ..checkpoints.identity import claim_components
from ..checkpoints.inventory import read_inventory
from ..checkpoints.kinds import Kind
from ..checkpoints.load import load_module, read_tensors
from ..checkpoints.rename import Shape, to_names
from ..codec.padding import pad_to_multiple
from ..codec.pixels import Picture
from ..core.device import Placement
from ..core.errors import CheckpointError, RequestError, UnknownCheckpoint
from ..denoisers.control import ControlNet
from ..denoisers.unet import ControlResiduals
from ..specs.control import ControlConfig
from ..specs.family import Family
from .start import resize

TEXT = "attn2.to_k.weight"
VECTOR = "add_embedding.linear_1.weight"
STRETCH = 1.02  # the largest difference between the sides' ratios that nobody sees


class Timed(Protocol):
    """What has a weight, and a share of the steps in which it speaks."""

    @property
    def weight(self) -> float: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Control:
    """A ControlNet with the picture that it is shown, in [0, 1] and as large as what is drawn: see `to_hint`.

    What it says counts `weight` times, in the steps from the share `start` up to the share `end` of all of them. Outside of these it costs
    nothing. Raises RequestError for numbers out of range.
    """

    net: ControlNet
    hint: Float[Tensor, "1 3 h w"]
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        check_times(self)

    def speaks(self, step: int, steps: int) -> bool:
        """Whether step number `step` (from 0) of `steps` lies inside the interval, with all of it."""
        return speaks(self, step, steps)

    @cached_property
    @torch.no_grad()
    def shown(self) -> Float[Tensor, "1 c h2 w2"]:
        """What the network makes of the picture, which is the same at every step."""
        own = next(self.net.parameters())
        return self.net.show(self.hint.to(device=own.device, dtype=own.dtype))


def check_times(control: Timed) -> None:
    """Raise RequestError for numbers out of range."""
    if not isfinite(control.weight):
        raise RequestError(f"control weight {control.weight}: expected a number", hint="1 is what ControlNets are trained at, 0 is none")
    if not 0 <= control.start < control.end <= 1:
        hint = "0 to 1 is all steps, 0 to 0.5 the first half of them"
        raise RequestError(f"control from {control.start} to {control.end}: expected 0 to 1, the first below the second", hint=hint)


def speaks(control: Timed, step: int, steps: int) -> bool:
    return control.weight != 0 and control.start <= step / steps and (step + 1) / steps <= control.end


def sum_controls(
    controls: Sequence[Control],
    noisy: Float[Tensor, "b c h w"],
    timestep: Float[Tensor, " b"],
    tokens: Float[Tensor, "b n d"],
    vector: Float[Tensor, "b v"] | None = None,
    *,
    step: int,
    steps: int,
) -> ControlResiduals | None:
    """What the U-Net is given as `added` at step number `step` (from 0) of `steps`; None where no control speaks.

    The other arguments are the U-Net's own, but `noisy` is the latent alone, without what an inpainting network is shown beside it.
    """
    total: ControlResiduals | None = None
    for control in controls:
        if not control.speaks(step, steps):
            continue
        said = control.net(noisy, timestep, control.shown, tokens, vector)
        skips, middle = [skip * control.weight for skip in said.skips], said.middle * control.weight
        if total is not None:
            skips, middle = [one + other for one, other in zip(total.skips, skips, strict=True)], total.middle + middle
        total = ControlResiduals(tuple(skips), middle)
    return total


def to_hint(picture: Picture, width: int, height: int, downscale: int) -> Float[Tensor, "1 3 h w"]:
    """The picture in [0, 1], width x height pixels, then padded as the codec pads a picture that a latent of `downscale` does not fit.

    A picture for edges or lines is best resized before they are found: see `preprocess`.
    """
    image = resize(picture.image, width, height).clamp(-1, 1)
    return (pad_to_multiple(image, downscale)[0] + 1) / 2


def warn_of_controls(controls: Sequence[Timed], steps: int) -> tuple[str, ...]:
    """Of every control that says nothing in any of so many steps."""
    return tuple(
        f"control {number} says nothing in {steps} steps: weight {control.weight:g}, from {control.start:g} to {control.end:g}"
        for number, control in enumerate(controls, 1)
        if not any(speaks(control, step, steps) for step in range(steps))
    )


def warn_of_stretch(picture: Picture, width: int, height: int) -> tuple[str, ...]:
    """Where a control picture has another shape than what is drawn."""
    ratio = (picture.width * height) / (picture.height * width)
    if max(ratio, 1 / ratio) <= STRETCH:
        return ()
    return (f"{picture.source or 'the control picture'} is {picture.width}x{picture.height}: stretched to {width}x{height}",)


def find_control(path: str | Path, family: Family) -> tuple[Inventory, Kind]:
    """The part of a file or folder that is a ControlNet for models of `family`, from its header alone. Raises as `load_control` does."""
    parts = claim_components(read_inventory(path))
    claimed = parts.get("control", parts.get(WHOLE))
    kinds = [] if claimed is None else [claim.kind for claim in claimed.claims if claim.kind.component == "control"]
    if claimed is None or not kinds:
        held = ", ".join(name for name in parts if name) or "nothing that is known"
        raise UnknownCheckpoint(f"{path} has no ControlNet that is known; it has: {held}", hint=f"`eightfold identify {path}`")
    shapes, keymap = claimed.part.shapes, kinds[0].keymap
    refuse_stranger(shapes if keymap is None else to_names(shapes, keymap), kinds[0], family, path)
    return claimed.part, kinds[0]


def load_control(path: str | Path, *, family: Family, placement: Placement) -> ControlNet:
    """The ControlNet of a weight file or folder, in either layout, alone or beside a model, for a model of `family`.

    Raises UnknownCheckpoint where there is none that is known, CheckpointError for one of another family or width.
    """
    part, kind = find_control(path, family)
    tensors = read_tensors(part)
    if kind.keymap is not None:
        tensors = to_diffusers(tensors, kind.keymap)
    network = ControlConfig(unet=replace(family.denoiser, channels=family.denoiser.out_channels, guidance=None))
    return load_module(lambda: ControlNet(network), tensors, source=str(path), device=placement.device, dtype=placement.dtype)


def refuse_stranger(shapes: Mapping[str, Shape], kind: Kind, family: Family, path: str | Path) -> None:
    """Raise CheckpointError, with the widths of both, where a ControlNet was made for another model. `shapes` are those of our layout."""
    unet = family.denoiser
    text = next(shape[1] for name, shape in shapes.items() if name.endswith(TEXT))
    vector = shapes[VECTOR][1] if VECTOR in shapes else 0
    found = (shapes["conv_in.weight"][0], text, vector)
    wanted = (unet.width * unet.multipliers[0], unet.context, unet.vector.width if unet.vector else 0)
    if kind.family == family.name and found == wanted:
        return
    what = f"{path} is a ControlNet for {kind.family} ({describe(*found)}), and the model is {family.name} ({describe(*wanted)})"
    raise CheckpointError(what, hint=f"name a ControlNet that was made for {family.name}")


def describe(width: int, text: int, vector: int) -> str:
    """320 channels, text of 768 numbers a token."""
    return f"{width} channels, text of {text} numbers a token" + (f", a vector of {vector}" if vector else "")
