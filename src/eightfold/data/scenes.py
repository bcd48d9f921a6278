"""Procedural scenes: what a picture of one to three solids contains, drawn from a seed, with a true caption.

`draw_scene` decides every factor, `render` turns factors into pixels, depth and masks.
"""

from __future__ import annotations

import colorsys
import math
import random
from typing import Final

from ..core.errors import RequestError
from .captions import CAPTION_WORDS, compose_caption, relate
from .raycast import Rendering, render
from .solids import COLOURS, MATERIALS, NEAR, SHAPES, SIZES, Camera, Ground, Light, Scene, Solid

__all__ = [
    "CAPTION_WORDS",
    "COLOURS",
    "MATERIALS",
    "SHAPES",
    "SIZES",
    "Camera",
    "Ground",
    "Light",
    "Rendering",
    "Scene",
    "Solid",
    "draw_scene",
    "relate",
    "render",
]

# How much smaller solids look in company, by count; the spread of their places; the edge of the frame they must keep clear of.
_SCALES: Final = (1.0, 0.78, 0.68)
_SPREADS: Final = (0.0, 1.7, 2.1)
_EDGE: Final = 0.97
_HIDDEN: Final = 0.12
_TRIES: Final = 200


def draw_scene(
    seed: int,
    index: int,
    *,
    counts: tuple[float, float, float] = (1.0, 0.0, 0.0),
    exclude: frozenset[tuple[str, str]] = frozenset(),
) -> Scene:
    """The scene number `index` of the stream `seed`; each pair has its own randomness.

    `counts` are the probabilities of one, two and three solids; pairs of (colour, shape) in `exclude` are never drawn. Within a scene
    no two solids share both colour and shape. Raises RequestError where `exclude` leaves too little.
    """
    rng = random.Random(f"{seed}/{index}")
    count = rng.choices((1, 2, 3), weights=counts)[0]
    pairs = [(colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in exclude]
    if len(pairs) < count:
        raise RequestError(
            f"draw_scene: {count} different solids wanted, {len(pairs)} pairs of colour and shape are left after `exclude`",
            hint="exclude fewer pairs",
        )
    while True:
        placed = _place_solids(rng, pairs, count)
        if placed is not None:
            break
    solids, camera = placed
    light = Light(
        azimuth=camera.yaw + rng.choice((-1.0, 1.0)) * rng.uniform(0.3, 1.7),
        elevation=rng.uniform(0.65, 1.15),
        strength=rng.uniform(0.50, 0.62),
        ambient=rng.uniform(0.40, 0.50),
        softness=rng.uniform(0.06, 0.22),
    )
    ground = _draw_ground(rng)
    return Scene(solids=solids, camera=camera, light=light, ground=ground, caption=compose_caption(rng, solids, camera, ground))


def _place_solids(rng: random.Random, pairs: list[tuple[str, str]], count: int) -> tuple[tuple[Solid, ...], Camera] | None:
    """Solids and a camera that sees them all, or None where these sizes would not fit."""
    kinds = rng.sample(pairs, count)
    sizes = [rng.choice(SIZES) for _ in kinds]
    materials = [rng.choice(MATERIALS) for _ in kinds]
    if sizes.count("large") > 1 and count == 3:
        return None
    spread = _SPREADS[count - 1]
    for _ in range(_TRIES):
        solids = tuple(
            Solid(
                shape=shape,
                colour=colour,
                size=size,
                material=material,
                x=rng.uniform(-spread, spread),
                z=rng.uniform(-spread, spread),
                angle=rng.uniform(-math.pi, math.pi),
            )
            for (colour, shape), size, material in zip(kinds, sizes, materials, strict=True)
        )
        camera = _draw_camera(rng, solids)
        if _is_clear(solids, camera):
            return solids, camera
    return None


def _draw_camera(rng: random.Random, solids: tuple[Solid, ...]) -> Camera:
    count = len(solids)
    target = tuple(sum(values) / count for values in zip(*((s.x, s.height, s.z) for s in solids), strict=True))
    jitter = 0.13 if count == 1 else 0.05
    return Camera(
        yaw=rng.uniform(-math.pi, math.pi),
        pitch=math.radians(rng.uniform(13.0, 36.0)),
        distance=NEAR / _SCALES[count - 1] * rng.uniform(0.95, 1.05),
        target=(target[0], target[1], target[2]),
        shift=(rng.uniform(-jitter, jitter), rng.uniform(-jitter, jitter)),
    )


def _is_clear(solids: tuple[Solid, ...], camera: Camera) -> bool:
    """Whether all solids are apart, in the frame and mostly visible, judged by circles around them."""
    discs: list[tuple[float, float, float, float]] = []
    for solid in solids:
        across, up, scale = camera.to_frame(solid.x, solid.height, solid.z)
        reach = (solid.radius + solid.bound) / 2 * scale
        points = [camera.to_frame(*corner)[:2] for corner in solid.corners()]
        edge = 1.03 * solid.radius * scale
        points = points or [(across - edge, up - edge), (across + edge, up + edge)]
        if max(max(abs(a), abs(b)) for a, b in points) > _EDGE:
            return False
        discs.append((across, up, reach, scale))
    for i, first in enumerate(solids):
        for j in range(i):
            second = solids[j]
            gap = math.hypot(first.x - second.x, first.z - second.z)
            if gap < 1.05 * (first.footprint + second.footprint):
                return False
            if _overlap(discs[i], discs[j]) > _HIDDEN:
                return False
    return True


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Part of the farther disc that the nearer one hides."""
    far, near = (a, b) if a[3] < b[3] else (b, a)
    gap = math.hypot(far[0] - near[0], far[1] - near[1])
    if gap >= far[2] + near[2]:
        return 0.0
    if gap <= abs(far[2] - near[2]):
        return 1.0
    cos_far = (gap**2 + far[2] ** 2 - near[2] ** 2) / (2 * gap * far[2])
    cos_near = (gap**2 + near[2] ** 2 - far[2] ** 2) / (2 * gap * near[2])
    angle_far, angle_near = math.acos(cos_far), math.acos(cos_near)
    lens = far[2] ** 2 * (angle_far - math.sin(2 * angle_far) / 2) + near[2] ** 2 * (angle_near - math.sin(2 * angle_near) / 2)
    return lens / (math.pi * far[2] ** 2)


def _draw_ground(rng: random.Random) -> Ground:
    hue, saturation = rng.random(), 0.0 if rng.random() < 0.35 else rng.uniform(0.0, 0.12)
    value = rng.uniform(0.45, 0.92)
    behind = min(max(value + rng.uniform(-0.25, 0.25), 0.35), 0.97)
    return Ground(
        colour=colorsys.hsv_to_rgb(hue, saturation, value),
        background=colorsys.hsv_to_rgb(hue, saturation * rng.uniform(0.3, 1.0), behind),
        gradient=rng.uniform(0.0, 0.3),
    )
