"""By which kernels a denoiser is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..codec.engine import Engine
from ..core.device import Placement
from ..denoisers.unet import ControlResiduals, UNet
from ..nn.stages import Down, Stage, State, Up, join_skip, save_skip

if TYPE_CHECKING:
    from ..nn.faststages import FastStages
    from .bundle import Model
    from .job import Leg

WORTH = 10e9  # multiplications and additions of a step's 3x3 convolutions below which torch's are as fast: the pocket model has 0.5e9
PLAIN = "torch, stage by stage"
Run = Callable[..., Tensor]


def count_operations(stages: Iterable[Stage], shape: tuple[int, ...]) -> float:
    """Multiplications and additions of the 3x3 convolutions of a U-Net's stages, for noisy latents of `shape` [b, c, h, w]."""
    batch, _, height, width = shape
    total, skips = 0.0, list[tuple[int, int]]()
    for stage in stages:
        if stage is save_skip:
            skips.append((height, width))
        elif stage is join_skip:
            skips.pop()
        if isinstance(stage, Down):
            height, width = -(-height // 2), -(-width // 2)
        elif isinstance(stage, Up):
            height, width = skips[-1] if skips else (2 * height, 2 * width)
        parts = stage.modules() if isinstance(stage, nn.Module) else ()
        kernels = [one.weight.numel() for one in parts if isinstance(one, nn.Conv2d) and one.kernel_size == (3, 3)]
        total += 2.0 * batch * height * width * sum(kernels)
    return total


@dataclass(eq=False)
class Kept:
    """What a denoiser is run by, and the record of it; it knows nothing of the denoiser, so that this can go."""

    stages: FastStages | None = None
    record: dict[str, object] = field(default_factory=lambda: {"denoiser_kernels": PLAIN})


KEPT: WeakKeyDictionary[UNet, Kept] = WeakKeyDictionary()


def choose_runner(denoiser: nn.Module | Run, placement: Placement, engine: Engine) -> Run:
    """To be called as the denoiser's own `forward` is; with fewer operations where that pays and can be done.

    `engine` lends the kernels, and its notes tell why where there are none. They are asked for at the first call that they are worth
    loading for. Shapes and errors are those of `UNet.forward`.
    """

    def run(
        noisy: Tensor,
        timestep: Tensor,
        tokens: Tensor | None = None,
        vector: Tensor | None = None,
        added: ControlResiduals | None = None,
        **scale: Tensor,
    ) -> Tensor:
        """`scale` is the guidance, for a network that is told it."""
        if isinstance(denoiser, UNet) and is_float_on_cpu(placement):
            fast = find_stages(denoiser, tuple(noisy.shape), engine)
            if fast is not None:
                state = State(time=denoiser.embed(timestep, vector, noisy.dtype, **scale), tokens=tokens)
                return fast.run(denoiser.stages(added), noisy, state)
        return denoiser(noisy, timestep, tokens, vector, added, **scale)

    return run


def find_stages(denoiser: UNet, shape: tuple[int, ...], engine: Engine) -> FastStages | None:
    kept = KEPT.setdefault(denoiser, Kept())
    if kept.stages is None and count_operations(denoiser.stages(), shape) >= WORTH:
        kernels, reason = engine.take_kernels()
        if kernels is None:
            kept.record["denoiser_kernels_reason"] = reason
            return None
        from ..nn.faststages import FastStages
        from ..nn.streams import Streams

        kept.stages = FastStages(Streams(kernels))
        kept.record = {"denoiser_kernels": kept.stages.streams.name}
    return kept.stages


def to_record(denoiser: nn.Module | Run) -> dict[str, object]:
    """By what it has been run so far, for the metadata of what it drew."""
    return dict(KEPT.get(denoiser, Kept()).record) if isinstance(denoiser, UNet) else {}


def foresee(model: Model, leg: Leg) -> dict[str, object]:
    """The record of a leg that is yet to be run."""
    denoiser, space = model.denoiser, model.codec.space
    if is_float_on_cpu(model.placement):
        height, width = (-(-side // space.latent_downscale) for side in (leg.height, leg.width))
        find_stages(denoiser, (1, space.latent_channels, height, width), model.codec.engine)
    return to_record(denoiser)


def is_float_on_cpu(placement: Placement) -> bool:
    """What the fast kernels are for."""
    return placement.device.type == "cpu" and placement.dtype == torch.float32
