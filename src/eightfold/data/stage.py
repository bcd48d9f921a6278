"""Scenes as tensors, ready to be met by rays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .shapes import Points
from .solids import BOUNDS, COLOURS, SHAPES, Scene


@dataclass(frozen=True)
class Stage:
    """Scenes as tensors. Per scene `[b, ...]`; per solid `[k, ...]`, with `owner` its scene and `slot` its number there."""

    axes: Tensor
    origin: Tensor
    shift: Tensor
    target: Tensor
    light: Tensor
    strength: Tensor
    ambient: Tensor
    softness: Tensor
    ground: Tensor
    background: Tensor
    gradient: Tensor
    owner: Tensor
    slot: Tensor
    shape: Tensor
    centre: Tensor
    radius: Tensor
    bound: Tensor
    turn: Tensor
    colour: Tensor
    shiny: Tensor

    @classmethod
    def build(cls, scenes: Sequence[Scene], device: torch.device) -> Stage:
        def floats(values: Sequence[object]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        def indices(values: Sequence[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        solids = [(i, j, solid) for i, scene in enumerate(scenes) for j, solid in enumerate(scene.solids)]
        angles = floats([solid.angle for _, _, solid in solids])
        return cls(
            axes=floats([scene.camera.axes() for scene in scenes]),
            origin=floats([scene.camera.origin() for scene in scenes]),
            shift=floats([scene.camera.shift for scene in scenes]),
            target=floats([scene.camera.target for scene in scenes]),
            light=floats([scene.light.direction() for scene in scenes]),
            strength=floats([scene.light.strength for scene in scenes]),
            ambient=floats([scene.light.ambient for scene in scenes]),
            softness=floats([scene.light.softness for scene in scenes]),
            ground=to_linear(floats([scene.ground.colour for scene in scenes])),
            background=to_linear(floats([scene.ground.background for scene in scenes])),
            gradient=floats([scene.ground.gradient for scene in scenes]),
            owner=indices([i for i, _, _ in solids]),
            slot=indices([j for _, j, _ in solids]),
            shape=indices([SHAPES.index(solid.shape) for _, _, solid in solids]),
            centre=floats([(solid.x, solid.height, solid.z) for _, _, solid in solids]),
            radius=floats([solid.radius for _, _, solid in solids]),
            bound=floats([BOUNDS[solid.shape] for _, _, solid in solids]),
            turn=torch.stack((angles.cos(), angles.sin()), dim=-1),
            colour=to_linear(floats([COLOURS[solid.colour] for _, _, solid in solids])),
            shiny=floats([solid.material == "shiny" for _, _, solid in solids]),
        )

    def to_local(self, solid: Tensor, vector: Points) -> Points:
        """A direction of the world in the frame of each solid, in units of its radius."""
        cos, sin = self.turn[solid].unbind(-1)
        scale = 1.0 / self.radius[solid]
        x, y, z = vector
        return (x * cos - z * sin) * scale, y * scale, (x * sin + z * cos) * scale

    def to_offset(self, solid: Tensor, point: Points) -> Points:
        """A point of the world relative to the centre of each solid, still in the world's axes."""
        x, y, z = self.centre[solid].unbind(-1)
        return point[0] - x, point[1] - y, point[2] - z


def to_linear(colour: Tensor) -> Tensor:
    """sRGB values as amounts of light."""
    return torch.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
