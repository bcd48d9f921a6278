"""Pictures of nothing in particular with the statistics of photographs: edges of every sharpness, occlusion, 1/f spectra, all colours.

An autoencoder that saw only rendered scenes would fail on photographs. Mixed with these it does not: dead leaves (discs and
rectangles over each other, their radii following a power law: Lee, Mumford and Huang 2001, "Occlusion models for natural images"),
noise with a power-law spectrum, gradients, line drawings and rows of marks that look like writing.
Pictures are drawn on the CPU with numpy, whose small windows cost little, and then moved.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from .strokes import draw_lines, draw_writing

Array = NDArray[np.float32]

KINDS: Final = ("leaves", "noise", "gradient", "lines", "writing", "mixed")
_WEIGHTS: Final = (0.36, 0.14, 0.08, 0.12, 0.08, 0.22)

# Ranges of hue, saturation and value of things that photographs show: skin, sky, foliage, earth, stone, snow, night, and anything.
_PALETTES: Final = (
    ((0.02, 0.09), (0.20, 0.65), (0.30, 0.97)),
    ((0.52, 0.65), (0.10, 0.75), (0.45, 1.00)),
    ((0.17, 0.42), (0.25, 0.85), (0.10, 0.75)),
    ((0.03, 0.13), (0.25, 0.75), (0.12, 0.75)),
    ((0.00, 1.00), (0.00, 0.12), (0.10, 0.95)),
    ((0.50, 0.70), (0.00, 0.15), (0.75, 1.00)),
    ((0.55, 0.75), (0.10, 0.70), (0.00, 0.30)),
    ((0.00, 1.00), (0.30, 1.00), (0.15, 1.00)),
    ((0.00, 1.00), (0.00, 1.00), (0.00, 1.00)),
)


def to_kind(seed: int, index: int) -> str:
    """Which of `KINDS` picture `index` of the stream `seed` is."""
    return _choose_kind(_build_rng(seed, index))


def render_textures(seed: int, indices: Sequence[int], size: int = 128, *, device: str | torch.device = "cpu") -> Float[Tensor, "b 3 h w"]:
    """Pictures `size` x `size` in [-1, 1]. A picture depends on `seed`, its index and `size` only, not on its company or the device."""
    pictures = [_draw(seed, index, size) for index in indices]
    images = np.stack(pictures) if pictures else np.zeros((0, size, size, 3), np.float32)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)


def _build_rng(seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng((seed % 2**63, index))


def _choose_kind(rng: np.random.Generator) -> str:
    return KINDS[int(np.searchsorted(np.cumsum(_WEIGHTS), rng.random()))]


def _draw(seed: int, index: int, size: int) -> Array:
    rng = _build_rng(seed, index)
    kind = _choose_kind(rng)
    palette = _draw_palette(rng)
    if kind == "leaves":
        canvas = _draw_leaves(rng, np.broadcast_to(palette[0], (size, size, 3)).astype(np.float32), palette, cover=True)
    elif kind == "noise":
        canvas = _draw_noise(rng, size, palette)
    elif kind == "gradient":
        canvas = _draw_gradient(rng, size, palette)
    elif kind in ("lines", "writing"):
        canvas = _draw_paper(rng, size)
        (draw_lines if kind == "lines" else draw_writing)(rng, canvas, palette)
    else:
        canvas = _draw_noise(rng, size, palette) if rng.random() < 0.6 else _draw_gradient(rng, size, palette)
        canvas = _draw_leaves(rng, canvas, palette, cover=False)
        if rng.random() < 0.35:
            draw_lines(rng, canvas, palette)
    if rng.random() < 0.35:
        canvas = _blur(canvas, float(rng.uniform(0.4, 1.0 if kind == "writing" else 2.0)) * size / 128)
    if rng.random() < 0.2:
        canvas = canvas + rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(0.005, 0.04))
    return canvas.clip(0, 1) * np.float32(2) - np.float32(1)


def _draw_palette(rng: np.random.Generator) -> Array:
    """Twelve sRGB colours from one to three natural ranges."""
    ranges = rng.choice(len(_PALETTES), size=rng.integers(1, 4))
    colours: list[tuple[float, float, float]] = []
    for _ in range(12):
        hue, saturation, value = _PALETTES[int(rng.choice(ranges))]
        colours.append(colorsys.hsv_to_rgb(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value)))
    return np.array(colours, np.float32)


def _draw_field(rng: np.random.Generator, size: int, fall: float, channels: int = 1) -> Array:
    """Gaussian noise `[size, size, channels]` whose amplitude falls as frequency to the power -`fall`; mean 0, deviation 1."""
    vertical, across = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    gain = np.maximum(vertical**2 + across**2, size**-2.0) ** (-fall / 2)
    gain[0, 0] = 0.0
    spectrum = np.fft.rfft2(rng.standard_normal((size, size, channels), dtype=np.float32), axes=(0, 1)) * gain[..., None]
    field = np.fft.irfft2(spectrum, s=(size, size), axes=(0, 1))
    return (field / field.std(axis=(0, 1))).astype(np.float32)


def _draw_noise(rng: np.random.Generator, size: int, palette: Array) -> Array:
    """Noise between two colours, or noise in each colour: grain, clouds, stone."""
    fall = float(rng.uniform(0.6, 1.7))
    light = _draw_field(rng, size, fall)
    if rng.random() < 0.5:
        part = (0.5 + rng.uniform(0.15, 0.45) * light).clip(0, 1)
        return palette[1] + (palette[2] - palette[1]) * part
    tint = _draw_field(rng, size, float(rng.uniform(0.9, 1.7)), 3)
    return palette[1] + np.float32(rng.uniform(0.06, 0.22)) * light + np.float32(rng.uniform(0.0, 0.12)) * tint


def _draw_gradient(rng: np.random.Generator, size: int, palette: Array) -> Array:
    """A smooth way through two or three colours, straight or around a point."""
    down, across = _build_grid(size)
    if rng.random() < 0.6:
        angle = rng.uniform(0, 2 * np.pi)
        way = 0.5 + 0.5 * (across * np.cos(angle) + down * np.sin(angle))
    else:
        way = np.hypot(across - rng.uniform(-1, 1), down - rng.uniform(-1, 1)) * rng.uniform(0.4, 1.2)
    way = (way.clip(0, 1) ** rng.uniform(0.5, 2.0))[..., None].astype(np.float32)
    first = palette[1] + (palette[2] - palette[1]) * way
    if rng.random() < 0.4:
        return first + (palette[3] - first) * np.square(way)
    return first


def _draw_paper(rng: np.random.Generator, size: int) -> Array:
    """Light or dark paper, plain or a little uneven."""
    dark = rng.random() < 0.25
    value = rng.uniform(0.02, 0.25) if dark else rng.uniform(0.8, 1.0)
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.5 if dark else 0.15), value)
    canvas = np.broadcast_to(np.array(colour, np.float32), (size, size, 3)).copy()
    if rng.random() < 0.4:
        canvas += np.float32(rng.uniform(0.01, 0.05)) * _draw_field(rng, size, 1.2)
    return canvas


def _build_grid(size: int) -> tuple[Array, Array]:
    steps: Array = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)) * np.float32(2) - np.float32(1)
    return np.repeat(steps[:, None], size, axis=1), np.repeat(steps[None], size, axis=0)


def _draw_leaves(rng: np.random.Generator, canvas: Array, palette: Array, *, cover: bool) -> Array:
    """Discs and rectangles over each other, from the back to the front; `cover` fills the frame, else some of the back shows."""
    size = canvas.shape[0]
    count = int(rng.integers(120, 190)) if cover else int(rng.integers(4, 45))
    low, high = size / 64, size * float(rng.uniform(0.2, 0.5))
    # Radii with density r^-3 between the bounds, which makes the picture look alike at every scale.
    radii = 1 / np.sqrt(rng.uniform(high**-2.0, low**-2.0, count))
    if cover:
        # The far back is large leaves, so that few pixels are left of the first colour.
        radii[:20] = high * rng.uniform(0.6, 1.2, 20)
    weave = _draw_field(rng, size, float(rng.uniform(0.6, 1.4)))
    sharp = float(rng.uniform(0.5, 1.0))
    round_part = float(rng.choice((0.0, 0.5, 0.5, 1.0)))
    canvas = canvas.copy()
    for radius in radii:
        edge = 0.7 if rng.random() < sharp else float(rng.uniform(1.0, 6.0))
        _draw_leaf(rng, canvas, weave, palette, (float(radius), edge, rng.random() < round_part))
    if rng.random() < 0.5:
        canvas *= 1 + np.float32(rng.uniform(0.05, 0.3)) * _draw_field(rng, size, 2.0)
    return canvas


def _draw_leaf(rng: np.random.Generator, canvas: Array, weave: Array, palette: Array, form: tuple[float, float, bool]) -> None:
    """One leaf of `form` (radius, width of its edge in pixels, whether it is round) at a random place."""
    size = canvas.shape[0]
    radius, edge, is_round = form
    random = rng.random(12, dtype=np.float32)
    middle_y, middle_x = (random[0] * 1.2 - 0.1) * size, (random[1] * 1.2 - 0.1) * size
    reach = radius * (1.0 if is_round else 1.42) + edge
    top, bottom = max(int(middle_y - reach), 0), min(int(middle_y + reach) + 2, size)
    left, right = max(int(middle_x - reach), 0), min(int(middle_x + reach) + 2, size)
    if top >= bottom or left >= right:
        return
    down = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - middle_y)
    across = np.arange(left, right, dtype=np.float32)[None] + np.float32(0.5 - middle_x)
    angle = random[2] * np.float32(np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = across * cos + down * sin, down * cos - across * sin
    slim = np.float32(1.0) if random[3] < 0.4 else np.float32(0.25) + np.float32(0.75) * random[4]
    disc, block = np.sqrt(u * u + np.square(v / slim)) - radius, np.maximum(np.abs(u) - radius, np.abs(v) - radius * slim)
    gap = disc * slim if is_round else block
    cover = (np.float32(0.5) - gap / np.float32(edge)).clip(0, 1)[..., None]
    colour = palette[int(random[5] * len(palette))] * (np.float32(0.75) + np.float32(0.5) * random[6])
    paint: Array = colour
    if random[7] < 0.5:
        shade = np.float32(1) + (np.float32(0.6) * random[8] / np.float32(radius)) * (u if random[9] < 0.5 else v)
        paint = colour * shade[..., None]
    elif random[7] < 0.75:
        paint = colour * (np.float32(1) + np.float32(0.3) * random[8] * weave[top:bottom, left:right])
    elif random[7] < 0.83:
        other = palette[int(random[9] * len(palette))]
        pitch = np.float32(2 * np.pi) / (np.float32(3) + random[10] * np.float32(max(radius, 4.0)))
        paint = colour + (other - colour) * (np.float32(0.5) + np.float32(0.5) * np.sin(u * pitch))[..., None]
    window = canvas[top:bottom, left:right]
    window += (paint - window) * cover


def _blur(canvas: Array, deviation: float) -> Array:
    """Gaussian blur, the border repeated."""
    reach = max(int(3 * deviation + 0.5), 1)
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / deviation)).astype(np.float32)
    weights /= weights.sum()
    height, width, _ = canvas.shape
    padded = np.pad(canvas, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    canvas = np.add.reduce([weight * padded[i : i + height] for i, weight in enumerate(weights)])
    padded = np.pad(canvas, ((0, 0), (reach, reach), (0, 0)), mode="edge")
    return np.add.reduce([weight * padded[:, i : i + width] for i, weight in enumerate(weights)])
