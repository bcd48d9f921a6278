"""What a scene is made of: solids in named colours on a plane, a light and a camera.

Everything here is plain numbers, so that a scene can be written to JSON and drawn again. Lengths are in the unit in which a lone
medium sphere, seen from `NEAR`, covers a little under half of the frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

COLOURS: Final[dict[str, tuple[float, float, float]]] = {
    "red": (0.90, 0.09, 0.09),
    "orange": (1.00, 0.50, 0.05),
    "yellow": (1.00, 0.90, 0.10),
    "green": (0.13, 0.75, 0.18),
    "cyan": (0.10, 0.84, 0.88),
    "blue": (0.10, 0.30, 0.94),
    "purple": (0.56, 0.17, 0.86),
    "pink": (1.00, 0.48, 0.74),
}
SHAPES: Final = ("sphere", "cube", "cylinder", "cone")
SIZES: Final = ("small", "medium", "large")
MATERIALS: Final = ("matte", "shiny")

# A scene's unit of size: the radius of the sphere. The other shapes are made to cover about the same area.
RADII: Final[dict[str, float]] = {"small": 0.49, "medium": 0.695, "large": 0.965}
CUBE_HALF: Final = 0.72
CYLINDER_RADIUS: Final = 0.79
CYLINDER_HALF: Final = 0.85
CONE_RADIUS: Final = 1.06
CONE_HALF: Final = 1.07
CENTRE_HEIGHTS: Final[dict[str, float]] = {"sphere": 1.0, "cube": CUBE_HALF, "cylinder": CYLINDER_HALF, "cone": CONE_HALF}
FOOTPRINTS: Final[dict[str, float]] = {"sphere": 1.0, "cube": CUBE_HALF * math.sqrt(2.0), "cylinder": CYLINDER_RADIUS, "cone": CONE_RADIUS}
BOUNDS: Final[dict[str, float]] = {
    "sphere": 1.0,
    "cube": CUBE_HALF * math.sqrt(3.0),
    "cylinder": math.hypot(CYLINDER_RADIUS, CYLINDER_HALF),
    "cone": math.hypot(CONE_RADIUS, CONE_HALF),
}

NEAR: Final = 5.0
HALF_FRAME: Final = math.tan(math.radians(17.5))
FAR: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Solid:
    """One body standing on the plane at (x, z), turned by `angle` radians about the vertical."""

    shape: str
    colour: str
    size: str
    material: str
    x: float
    z: float
    angle: float

    @property
    def radius(self) -> float:
        return RADII[self.size]

    @property
    def height(self) -> float:
        """Height of the centre above the plane."""
        return self.radius * CENTRE_HEIGHTS[self.shape]

    @property
    def footprint(self) -> float:
        """Radius of the circle on the plane that the solid stays over."""
        return self.radius * FOOTPRINTS[self.shape]

    @property
    def bound(self) -> float:
        """Radius of the sphere about the centre that holds the solid."""
        return self.radius * BOUNDS[self.shape]

    def corners(self) -> list[tuple[float, float, float]]:
        """Points of the world whose hull is the solid, nearly; none for a sphere, which has no corners."""
        turns = [self.angle + k * math.pi / (2 if self.shape == "cube" else 8) for k in range(4 if self.shape == "cube" else 16)]
        if self.shape == "cube":
            turns = [turn + math.pi / 4 for turn in turns]
        rings = {"sphere": (), "cube": (0.0, 2 * self.height), "cylinder": (0.0, 2 * self.height), "cone": (0.0,)}[self.shape]
        reach = self.footprint
        points = [(self.x + reach * math.sin(turn), level, self.z + reach * math.cos(turn)) for level in rings for turn in turns]
        return [*points, (self.x, 2 * self.height, self.z)] if self.shape == "cone" else points


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Looks at `target` from `distance`, `pitch` radians above the plane; `shift` moves the picture, in half frames."""

    yaw: float
    pitch: float
    distance: float
    target: tuple[float, float, float]
    shift: tuple[float, float]

    def axes(self) -> tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]:
        """Right, up and forward as unit vectors of the world."""
        sin_yaw, cos_yaw = math.sin(self.yaw), math.cos(self.yaw)
        sin_pitch, cos_pitch = math.sin(self.pitch), math.cos(self.pitch)
        return (
            (cos_yaw, 0.0, -sin_yaw),
            (-sin_pitch * sin_yaw, cos_pitch, -sin_pitch * cos_yaw),
            (-cos_pitch * sin_yaw, -sin_pitch, -cos_pitch * cos_yaw),
        )

    def origin(self) -> tuple[float, float, float]:
        forward = self.axes()[2]
        x, y, z = (centre - self.distance * step for centre, step in zip(self.target, forward, strict=True))
        return x, y, z

    def to_view(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """A point of the world as (right, up, forward) seen from the camera."""
        origin = self.origin()
        offset = (x - origin[0], y - origin[1], z - origin[2])
        right, up, forward = (sum(a * b for a, b in zip(axis, offset, strict=True)) for axis in self.axes())
        return right, up, forward

    def to_frame(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """A point of the world on the picture: (-1..1 to the right, -1..1 upwards), and half frames a unit of length there."""
        right, up, forward = self.to_view(x, y, z)
        scale = 1.0 / (HALF_FRAME * forward)
        return right * scale + self.shift[0], up * scale + self.shift[1], scale


@dataclass(frozen=True, kw_only=True)
class Light:
    """A far lamp. `azimuth` is radians in the world; `ambient` and `strength` add up to about one."""

    azimuth: float
    elevation: float
    strength: float
    ambient: float
    softness: float

    def direction(self) -> tuple[float, float, float]:
        """Unit vector from the scene towards the lamp."""
        flat = math.cos(self.elevation)
        return flat * math.sin(self.azimuth), math.sin(self.elevation), flat * math.cos(self.azimuth)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The plane and what is behind it, as sRGB colours of low saturation."""

    colour: tuple[float, float, float]
    background: tuple[float, float, float]
    gradient: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All factors of one picture and one true caption of it."""

    solids: tuple[Solid, ...]
    camera: Camera
    light: Light
    ground: Ground
    caption: str
