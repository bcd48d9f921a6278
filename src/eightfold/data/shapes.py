"""The four solids as formulas: where a ray meets them, which way their surface faces, how far away they are.

All points are in the solid's own frame: centre at the origin, upright, in units of its radius. Points are tuples of three tensors of
equal shape, because whole coordinates are faster to work on than interleaved ones.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from .solids import CONE_HALF, CONE_RADIUS, CUBE_HALF, CYLINDER_HALF, CYLINDER_RADIUS

Points = tuple[Tensor, Tensor, Tensor]

_SLOPE: Final = CONE_RADIUS / (2 * CONE_HALF)
_TINY: Final = 1e-9


def intersect(shape: str, origin: Points, direction: Points) -> tuple[Tensor, Points]:
    """Distance along each ray to the surface (infinite where it is missed) and the outward unit normal there.

    Rays start outside the solid and above the plane it stands on, so undersides are never met.
    """
    return _INTERSECT[shape](origin, direction)


def measure(shape: str, point: Points) -> Tensor:
    """Signed distance to the surface, negative inside; exact outside but for the cone's rim and tip, where it is a lower bound."""
    x, y, z = point
    if shape == "sphere":
        return (x * x + y * y + z * z).sqrt() - 1.0
    if shape == "cube":
        a, b, c = x.abs() - CUBE_HALF, y.abs() - CUBE_HALF, z.abs() - CUBE_HALF
        a_out, b_out, c_out = a.clamp(min=0), b.clamp(min=0), c.clamp(min=0)
        return (a_out * a_out + b_out * b_out + c_out * c_out).sqrt() + torch.maximum(torch.maximum(a, b), c).clamp(max=0)
    across = (x * x + z * z).sqrt()
    if shape == "cylinder":
        a, b = across - CYLINDER_RADIUS, y.abs() - CYLINDER_HALF
        a_out, b_out = a.clamp(min=0), b.clamp(min=0)
        return (a_out * a_out + b_out * b_out).sqrt() + torch.maximum(a, b).clamp(max=0)
    side = (across - _SLOPE * (CONE_HALF - y)) / math.sqrt(1 + _SLOPE * _SLOPE)
    return torch.maximum(side, -CONE_HALF - y)


def _near_root(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The smaller root of a t^2 + 2 b t + c where a > 0; infinite where there is none."""
    inside = b * b - a * c
    root = (-b - inside.clamp(min=0).sqrt()) / a.clamp(min=_TINY)
    return root.masked_fill((inside <= 0) | (root <= 0), math.inf)


def _intersect_sphere(origin: Points, direction: Points) -> tuple[Tensor, Points]:
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    reach = _near_root(dx * dx + dy * dy + dz * dz, ox * dx + oy * dy + oz * dz, ox * ox + oy * oy + oz * oz - 1.0)
    safe = reach.nan_to_num(posinf=0.0)
    return reach, (ox + safe * dx, oy + safe * dy, oz + safe * dz)


def _intersect_cube(origin: Points, direction: Points) -> tuple[Tensor, Points]:
    enters: list[Tensor] = []
    leaves: list[Tensor] = []
    for start, step in zip(origin, direction, strict=True):
        inverse = 1.0 / torch.where(step.abs() < _TINY, _TINY, step)
        a, b = (-CUBE_HALF - start) * inverse, (CUBE_HALF - start) * inverse
        enters.append(torch.minimum(a, b))
        leaves.append(torch.maximum(a, b))
    near = torch.maximum(torch.maximum(enters[0], enters[1]), enters[2])
    far = torch.minimum(torch.minimum(leaves[0], leaves[1]), leaves[2])
    reach = near.masked_fill((near >= far) | (near <= 0), math.inf)
    on_x = (enters[0] >= near).to(near.dtype)
    on_y = (enters[1] >= near).to(near.dtype) * (1 - on_x)
    on_z = (1 - on_x) * (1 - on_y)
    return reach, (-on_x * direction[0].sign(), -on_y * direction[1].sign(), -on_z * direction[2].sign())


def _intersect_cylinder(origin: Points, direction: Points) -> tuple[Tensor, Points]:
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    side = _near_root(dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - CYLINDER_RADIUS**2)
    safe = side.nan_to_num(posinf=0.0)
    side = side.masked_fill((oy + safe * dy).abs() > CYLINDER_HALF, math.inf)
    top = (CYLINDER_HALF - oy) / torch.where(dy.abs() < _TINY, -_TINY, dy)
    top_x, top_z = ox + top * dx, oz + top * dz
    top = top.masked_fill((top_x * top_x + top_z * top_z > CYLINDER_RADIUS**2) | (top <= 0), math.inf)
    on_top = (top < side).to(top.dtype)
    around = (1 - on_top) / CYLINDER_RADIUS
    return torch.minimum(side, top), ((ox + safe * dx) * around, on_top, (oz + safe * dz) * around)


def _intersect_cone(origin: Points, direction: Points) -> tuple[Tensor, Points]:
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    square, below = _SLOPE * _SLOPE, CONE_HALF - oy
    a = dx * dx + dz * dz - square * dy * dy
    b = ox * dx + oz * dz + square * below * dy
    reach = _near_root(a, b, ox * ox + oz * oz - square * below * below)
    safe = reach.nan_to_num(posinf=0.0)
    x, y, z = ox + safe * dx, oy + safe * dy, oz + safe * dz
    reach = reach.masked_fill((y.abs() > CONE_HALF) | (a <= _TINY), math.inf)
    flat = 1.0 / ((x * x + z * z).sqrt() * math.sqrt(1 + square)).clamp(min=1e-6)
    return reach, (x * flat, torch.full_like(y, _SLOPE / math.sqrt(1 + square)), z * flat)


_INTERSECT: Final = {
    "sphere": _intersect_sphere,
    "cube": _intersect_cube,
    "cylinder": _intersect_cylinder,
    "cone": _intersect_cone,
}
