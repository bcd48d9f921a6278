"""Pixels, depth and masks of scenes, by meeting rays with solids in closed form.

The plane is shaded once a pixel; solids on a grid twice as fine, only along rays that meet their bounding spheres, and the four parts
of a pixel are averaged in linear light. Shadows are soft: how nearly a ray to the lamp misses a solid, over how far away it does so.
On a CPU scenes are drawn one by one, so that a scene's picture does not depend on its company.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor

from .shapes import Points, intersect, measure
from .solids import FAR, HALF_FRAME, SHAPES, Scene
from .stage import Stage

_SLOTS: Final = 3
_TOGETHER: Final = 64
_SHADOW_SAMPLES: Final = 10
_HAZE: Final = (7.0, 20.0)


@dataclass(frozen=True)
class Rendering:
    """Pictures of scenes: `image` in [-1, 1], `depth` along the view axis (at most 30), `masks` the visible pixels of solid i."""

    image: Float[Tensor, "b 3 h w"]
    depth: Float[Tensor, "b 1 h w"]
    masks: Bool[Tensor, "b 3 h w"]


def render(scenes: Sequence[Scene], size: int = 128, *, device: str | torch.device = "cpu") -> Rendering:
    """Pictures `size` x `size` of at least one scene.

    A mask holds the pixels of which a solid covers at least half; masks do not overlap.
    """
    device = torch.device(device)
    step = 1 if device.type == "cpu" else _TOGETHER
    with torch.no_grad():
        parts = [render_together(Stage.build(scenes[i : i + step], device), size) for i in range(0, len(scenes), step)]
    return Rendering(
        image=torch.cat([part.image for part in parts]),
        depth=torch.cat([part.depth for part in parts]),
        masks=torch.cat([part.masks for part in parts]),
    )


def render_together(stage: Stage, size: int) -> Rendering:
    """All scenes of `stage` in one go, which is what a GPU wants; `render` is the plain way in."""
    floor, floor_depth = _shade_ground(stage, size)
    b = floor.shape[0]
    rays = _cast_rays(stage, 2 * size)
    reach, normal, solid, ray = _meet(stage, rays)
    nearest = torch.full((b, _SLOTS, 4 * size * size), torch.inf, device=reach.device)
    owner, slot = stage.owner[solid], stage.slot[solid]
    nearest[owner, slot, ray] = reach
    closest, front = nearest.min(dim=1)
    seen = (reach < torch.inf) & (front[owner, ray] == slot)
    reach, solid, ray, owner = reach[seen], solid[seen], ray[seen], owner[seen]
    facing = _take(normal, seen)
    colour = torch.zeros(b, 4 * size * size, 3, device=reach.device)
    colour[owner, ray] = _shade_solids(stage, reach, facing, solid, (rays[0][owner, ray], rays[1][owner, ray], rays[2][owner, ray]))

    hit = (closest < torch.inf).float()
    cover = reduce(hit, "b (h i w j) -> b 1 h w", "mean", h=size, i=2, w=size, j=2)
    solids = reduce(colour, "b (h i w j) c -> b c h w", "mean", h=size, i=2, w=size, j=2)
    image = _to_srgb(solids + (1.0 - cover) * floor)

    covered = torch.stack([hit * (front == k) for k in range(_SLOTS)], dim=1)
    counts = reduce(covered, "b k (h i w j) -> b k h w", "sum", h=size, i=2, w=size, j=2)
    most, which = counts.max(dim=1, keepdim=True)
    masks = (torch.arange(_SLOTS, device=hit.device).view(1, -1, 1, 1) == which) & (most >= 2)
    along = _dot(rays, stage.axes[:, None, 2])
    inner = reduce(closest * along, "b (h i w j) -> b 1 h w", "min", h=size, i=2, w=size, j=2)
    depth = torch.where(most >= 2, inner, floor_depth).clamp(max=FAR)
    return Rendering(image=image * 2.0 - 1.0, depth=depth, masks=masks)


def _cast_rays(stage: Stage, size: int) -> Points:
    """Unit directions through the middles of a `size` x `size` grid of pixels, three tensors `[b, size * size]`."""
    steps = (torch.arange(size, device=stage.axes.device, dtype=torch.float32) + 0.5) * (2.0 / size) - 1.0
    across = ((steps - stage.shift[:, :1]) * HALF_FRAME)[:, None, :].expand(-1, size, -1)
    up = ((-steps - stage.shift[:, 1:]) * HALF_FRAME)[:, :, None].expand(-1, -1, size)
    inverse = 1.0 / (1.0 + across * across + up * up).sqrt()
    right, above, forward = (axis[:, :, None, None] for axis in stage.axes.unbind(1))
    x, y, z = ((right[:, k] * across + above[:, k] * up + forward[:, k]) * inverse for k in range(3))
    return x.flatten(1), y.flatten(1), z.flatten(1)


def _meet(stage: Stage, rays: Points) -> tuple[Tensor, Points, Tensor, Tensor]:
    """Meets every solid with the rays of its scene: distance and normal a candidate, and its solid and ray."""
    offset = stage.origin[stage.owner] - stage.centre
    toward = _dot(_take(rays, stage.owner), offset[:, None])
    gap = (offset * offset).sum(-1, keepdim=True) - toward * toward
    solid, ray = (gap < (stage.bound * stage.radius)[:, None] ** 2).nonzero(as_tuple=True)
    owner = stage.owner[solid]
    direction = (rays[0][owner, ray], rays[1][owner, ray], rays[2][owner, ray])
    x, y, z = offset[solid].unbind(-1)
    origin, direction = stage.to_local(solid, (x, y, z)), stage.to_local(solid, direction)
    reach = torch.empty_like(x)
    normal = (torch.empty_like(x), torch.empty_like(x), torch.empty_like(x))
    for shape, chosen in _by_shape(stage, solid):
        reach[chosen], facing = intersect(shape, _take(origin, chosen), _take(direction, chosen))
        for k in range(3):
            normal[k][chosen] = facing[k]
    cos, sin = stage.turn[solid].unbind(-1)
    return reach, (normal[0] * cos + normal[2] * sin, normal[1], normal[2] * cos - normal[0] * sin), solid, ray


def _take(points: Points, chosen: Tensor | slice) -> Points:
    return points[0][chosen], points[1][chosen], points[2][chosen]


def _dot(points: Points, other: Tensor) -> Tensor:
    """Dot products with vectors `[..., 3]`."""
    return points[0] * other[..., 0] + points[1] * other[..., 1] + points[2] * other[..., 2]


def _by_shape(stage: Stage, solid: Tensor) -> Iterator[tuple[str, Tensor | slice]]:
    """The shapes that occur, each with the places where it does."""
    if stage.shape.numel() == 1:
        yield SHAPES[int(stage.shape)], slice(None)
        return
    kinds = stage.shape[solid]
    for k, shape in enumerate(SHAPES):
        chosen = (kinds == k).nonzero().squeeze(-1)
        if chosen.numel():
            yield shape, chosen


def _shade_ground(stage: Stage, size: int) -> tuple[Tensor, Tensor]:
    """Linear colour `[b, 3, h, w]` and depth `[b, 1, h, w]` of the plane and of what is behind it, once a pixel."""
    x, y, z = _cast_rays(stage, size)
    origin = stage.origin
    along = _dot((x, y, z), stage.axes[:, None, 2])
    reach = torch.where(y < 0, origin[:, 1:2] / (-y).clamp(min=1e-4), torch.inf).clamp(max=3 * FAR)
    point = (origin[:, 0:1] + reach * x, torch.zeros_like(x), origin[:, 2:3] + reach * z)
    shadow, contact = _dim_ground(stage, point)

    away_x, away_z = point[0] - stage.target[:, 0:1], point[2] - stage.target[:, 2:3]
    pool = 1.06 - stage.gradient[:, None] * (1.0 - 1.0 / (1.0 + 0.08 * (away_x * away_x + away_z * away_z)))
    lamp = (stage.strength * stage.light[:, 1])[:, None] * 1.25
    lit = pool * (stage.ambient[:, None] * contact + lamp * shadow)
    sky = 1.0 + stage.gradient[:, None] * (0.15 - 1.2 * y.clamp(min=-0.05))
    haze = ((reach - _HAZE[0]) / (_HAZE[1] - _HAZE[0])).clamp(0, 1)
    haze = (haze * haze * (3.0 - 2.0 * haze))[:, None]
    colour = stage.ground[..., None] * lit[:, None] * (1.0 - haze) + stage.background[..., None] * sky[:, None] * haze
    depth = (reach * along)[:, None]
    return rearrange(colour, "b c (h w) -> b c h w", h=size), rearrange(depth, "b c (h w) -> b c h w", h=size)


def _dim_ground(stage: Stage, point: Points) -> tuple[Tensor, Tensor]:
    """Parts of the lamp's and of the sky's light that reach points `[b, n]` of the plane."""
    shadow, contact = torch.ones_like(point[0]), torch.ones_like(point[0])
    every = torch.arange(len(stage.owner), device=stage.owner.device)[:, None]
    away = stage.to_offset(every, _take(point, stage.owner))
    near = away[0] * away[0] + away[2] * away[2] < (2.2 * stage.radius[:, None]) ** 2
    solid, spot = near.nonzero(as_tuple=True)
    local = stage.to_local(solid, (away[0][solid, spot], away[1][solid, spot], away[2][solid, spot]))
    gap = torch.empty_like(local[0])
    for shape, chosen in _by_shape(stage, solid):
        gap[chosen] = measure(shape, _take(local, chosen))
    rest = (1.0 - gap.clamp(min=0) / 1.2).clamp(min=0)
    _scale(contact, stage, solid, spot, 1.0 - 0.6 * rest * rest)
    solid, spot, part = _cast_shadow(stage, away, every)
    _scale(shadow, stage, solid, spot, part)
    return shadow, contact


def _scale(field: Tensor, stage: Stage, solid: Tensor, spot: Tensor, part: Tensor) -> None:
    """Multiplies `field[owner, spot]` by `part`, one slot after the other because two solids may share a spot."""
    for slot in range(_SLOTS):
        chosen = (stage.slot[solid] == slot).nonzero().squeeze(-1)
        if chosen.numel():
            field[stage.owner[solid[chosen]], spot[chosen]] *= part[chosen]


def _cast_shadow(stage: Stage, away: Points, solid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How much of the lamp passes solids, from points `away` (from the solid's centre) `[k, n]`: solid, place and part, where dimmed.

    The part is 1/2 on the edge of the shadow and falls or rises with (signed distance / way to the lamp / softness).
    """
    lamp = stage.light[stage.owner[solid]]
    toward = _dot(away, lamp)
    square = away[0] * away[0] + away[1] * away[1] + away[2] * away[2]
    soft = stage.softness[stage.owner[solid]]
    reach = stage.bound[solid] * stage.radius[solid]
    wide = reach - toward.clamp(max=0) * soft
    behind = (square - toward * toward < wide * wide) & (toward < reach)
    row, place = behind.nonzero(as_tuple=True)
    solid = solid.expand_as(behind)[row, place]
    start = stage.to_local(solid, (away[0][row, place], away[1][row, place], away[2][row, place]))
    x, y, z = stage.light[stage.owner[solid]].unbind(-1)
    step = stage.to_local(solid, (x, y, z))
    # In units of the radius; the samples span the part of the way inside the bounding sphere.
    radius = stage.radius[solid]
    middle, bound = -toward[row, place] / radius, stage.bound[solid]
    first, last = (middle - bound).clamp(min=0.03), (middle + bound).clamp(min=0.1)
    steps = (torch.arange(_SHADOW_SAMPLES, device=first.device, dtype=torch.float32) + 0.5) / _SHADOW_SAMPLES
    travel = tuple((s * radius)[:, None] for s in step)
    miss = torch.empty_like(first)
    for shape, chosen in _by_shape(stage, solid):
        a, b = first[chosen, None], last[chosen, None]
        for again in range(2):
            ways = a + (b - a) * steps
            x, y, z = (p[chosen, None] + ways * t[chosen] for p, t in zip(start, travel, strict=True))
            least, where = (measure(shape, (x, y, z)) / ways).min(dim=-1, keepdim=True)
            miss[chosen] = least.squeeze(-1) if again == 0 else torch.minimum(miss[chosen], least.squeeze(-1))
            # Once more, finely, around the nearest miss: without it edges of shadows show the samples as stripes.
            middle, spacing = ways.gather(-1, where), (b - a) / _SHADOW_SAMPLES
            a, b = (middle - spacing).clamp(min=0.03), middle + spacing
    part = (0.5 + 0.5 * miss / stage.softness[stage.owner[solid]]).clamp(0, 1)
    return row, place, part * part * (3.0 - 2.0 * part)


def _shade_solids(stage: Stage, reach: Tensor, normal: Points, solid: Tensor, ray: Points) -> Tensor:
    """Linear colours `[n, 3]` of points on solids: lamp, sky, ground and, where shiny, what they mirror."""
    owner = stage.owner[solid]
    base, lamp = stage.colour[solid], stage.light[owner]
    origin = stage.origin[owner]
    point = tuple(origin[:, k] + reach * ray[k] for k in range(3))
    facing = _dot(normal, lamp)
    shadow = _shadow_solids(stage, (point[0], point[1], point[2]), solid)
    # Wrapping the lamp a little around the edge keeps dark sides coloured.
    diffuse = ((facing + 0.25) / 1.25).clamp(min=0) * (0.25 + 0.75 * shadow)
    height = (point[1] / (0.7 * stage.radius[solid])).clamp(max=1)
    open_sky = (0.5 + 0.5 * normal[1]) * 0.35 + 0.65
    white = stage.ambient[owner] * open_sky * (0.65 + 0.35 * height) + stage.strength[owner] * diffuse
    bounce = stage.ground[owner] * (0.10 * (1.0 - normal[1]) * stage.strength[owner])[:, None]
    colour = base * (white[:, None] + bounce)

    return _add_shine(stage, colour, normal, solid, ray, shadow)


def _add_shine(stage: Stage, colour: Tensor, normal: Points, solid: Tensor, ray: Points, shadow: Tensor) -> Tensor:
    """What shiny solids mirror, laid over `colour` `[n, 3]`: the lamp, ground and background, and two tall windows of a room.

    The windows are wide and blurred, so that a flat face, too, shows part of one.
    """
    owner, shiny = stage.owner[solid], stage.shiny[solid]
    lamp = stage.light[owner]
    toward = normal[0] * ray[0] + normal[1] * ray[1] + normal[2] * ray[2]
    x, y, z = (ray[k] - 2.0 * toward * normal[k] for k in range(3))
    edge = (1.0 + toward).clamp(0, 1)
    fresnel = (0.05 + 0.45 * edge * edge * edge * edge) * shiny
    upward = (y * 0.8 + 0.35).clamp(0, 1)
    room = stage.ground[owner] * (0.6 * (1.0 - upward))[:, None] + stage.background[owner] * (1.2 * upward)[:, None]

    # Squared cosine of the angle, seen from above, between what is mirrored and the lamp: 1 at both windows, 0 between them.
    flat = (x * x + z * z).clamp(min=1e-6)
    facing = (x * lamp[:, 0] + z * lamp[:, 2]) ** 2 / (flat * (lamp[:, 0] ** 2 + lamp[:, 2] ** 2))
    pane = ((facing - 0.35) * 1.8).clamp(0, 1) * ((y + 0.85) * 5.0).clamp(0, 1) * ((0.75 - y) * 5.0).clamp(0, 1)
    glint = _dot((x, y, z), lamp).clamp(min=0)
    broad = glint**4
    shine = shiny * (0.09 * pane + (0.05 * broad + 0.95 * broad**12) * (0.2 + 0.8 * shadow))
    return colour * (1.0 - fresnel)[:, None] + room * fresnel[:, None] + shine[:, None]


def _shadow_solids(stage: Stage, point: Points, solid: Tensor) -> Tensor:
    """Part of the lamp's light that the other solids of a scene let through to points on `solid`."""
    shadow = torch.ones_like(point[0])
    if not bool((stage.slot > 0).any()):
        return shadow
    for other in range(len(stage.owner)):
        chosen = ((stage.owner[solid] == stage.owner[other]) & (solid != other)).nonzero().squeeze(-1)
        if not chosen.numel():
            continue
        caster = torch.full((1, 1), other, device=solid.device)
        away = stage.to_offset(caster, (point[0][chosen][None], point[1][chosen][None], point[2][chosen][None]))
        _, place, part = _cast_shadow(stage, away, caster)
        shadow[chosen[place]] *= part
    return shadow


def _to_srgb(light: Tensor) -> Tensor:
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
