"""Strokes of a pen on a canvas: curves, hatching, outlines and rows of marks that look like writing.

Canvases are float32 arrays `[h, w, 3]`, drawn on in place; a stroke's edge is one pixel soft.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def draw_lines(rng: np.random.Generator, canvas: Array, palette: Array) -> None:
    """Curves, straight lines, ellipses and hatched patches in one to three inks."""
    size = canvas.shape[0]
    inks = _draw_inks(rng, canvas, palette)
    unit = size / 128
    pen = float(np.exp(rng.uniform(np.log(0.7), np.log(4.0)))) * unit
    for _ in range(int(rng.integers(0, 4))):
        _hatch(rng, canvas, inks[int(rng.integers(len(inks)))])
    for _ in range(int(rng.integers(4, 22))):
        width = pen * float(rng.uniform(0.6, 1.6))
        ink = inks[int(rng.integers(len(inks)))]
        _trace(canvas, _draw_path(rng, size), width, ink)


def draw_writing(rng: np.random.Generator, canvas: Array, palette: Array) -> None:
    """Rows of words made of a small alphabet of random glyphs, all of one height or with a heading."""
    size = canvas.shape[0]
    inks = _draw_inks(rng, canvas, palette)
    row = float(rng.uniform(0.02, 0.12)) * size
    top = row
    is_heading = rng.random() < 0.4
    while top < size - row:
        tall = max(row * (2.2 if is_heading else 1.0), 4.0)
        tall = min(tall, size / 4)
        _write_row(rng, canvas, (top, tall), inks[0 if not is_heading else -1])
        top += tall * float(rng.uniform(1.5, 1.9)) + (tall if rng.random() < 0.15 else 0.0)
        is_heading = False


def _draw_inks(rng: np.random.Generator, canvas: Array, palette: Array) -> list[Array]:
    """One to three colours that stand out from the canvas."""
    level = float(canvas.mean())
    plain = np.full(3, rng.uniform(0, 0.3) if level > 0.5 else rng.uniform(0.7, 1.0), np.float32)
    if rng.random() < 0.5:
        return [plain]
    gaps = np.abs(palette.mean(axis=-1) - level)
    return [plain, *palette[np.argsort(-gaps)[: int(rng.integers(1, 3))]]]


def _draw_path(rng: np.random.Generator, size: int) -> Array:
    """Corners `[n, 2]` (down, across) of a straight line, a quadratic curve or an ellipse."""
    kind = rng.random()
    start = rng.uniform(-0.1, 1.1, 2) * size
    if kind < 0.25:
        return np.stack([start, start + rng.normal(0, 0.4, 2) * size]).astype(np.float32)
    if kind < 0.75:
        bend, end = start + rng.normal(0, 0.3, 2) * size, start + rng.normal(0, 0.4, 2) * size
        t = np.linspace(0, 1, 13)[:, None]
        return ((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end).astype(np.float32)
    turn = np.linspace(0, 2 * np.pi, 25)
    axes = rng.uniform(0.03, 0.3, 2) * size
    return (start + np.stack([np.sin(turn), np.cos(turn)], axis=-1) * axes).astype(np.float32)


def _trace(canvas: Array, path: Array, width: float, ink: Array) -> None:
    """Draws the polyline `path`, `width` pixels thick."""
    height, across = canvas.shape[:2]
    (top, left), (bottom, right) = path.min(axis=0) - width - 1, path.max(axis=0) + width + 2
    top, bottom = max(int(top), 0), min(int(bottom) + 1, height)
    left, right = max(int(left), 0), min(int(right) + 1, across)
    if top >= bottom or left >= right:
        return
    cover = np.zeros((bottom - top, right - left), np.float32)
    for start, end in pairwise(path):
        _cover_segment(cover, start - (top, left), end - (top, left), width)
    window = canvas[top:bottom, left:right]
    window += (ink - window) * cover[..., None]


def _cover_segment(cover: Array, start: Array, end: Array, width: float) -> None:
    """Raises `cover` to the part of each pixel that a round-ended segment covers."""
    low, high = np.minimum(start, end) - width - 1, np.maximum(start, end) + width + 2
    top, bottom = max(int(low[0]), 0), min(int(high[0]) + 1, cover.shape[0])
    left, right = max(int(low[1]), 0), min(int(high[1]) + 1, cover.shape[1])
    if top >= bottom or left >= right:
        return
    down = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - start[0])
    across = np.arange(left, right, dtype=np.float32)[None] + np.float32(0.5 - start[1])
    step_y, step_x = np.float32(end[0] - start[0]), np.float32(end[1] - start[1])
    part = ((down * step_y + across * step_x) / max(step_y * step_y + step_x * step_x, np.float32(1e-6))).clip(0, 1)
    gap = np.sqrt(np.square(down - part * step_y) + np.square(across - part * step_x))
    window = cover[top:bottom, left:right]
    np.maximum(window, (np.float32(0.5 * width + 0.5) - gap).clip(0, min(1.0, width)), out=window)


def _hatch(rng: np.random.Generator, canvas: Array, ink: Array) -> None:
    """Fills a disc with parallel lines."""
    size = canvas.shape[0]
    middle = rng.uniform(0, 1, 2) * size
    radius, spacing, angle = rng.uniform(0.1, 0.35) * size, rng.uniform(2.5, 9.0), rng.uniform(0, np.pi)
    down = np.arange(size, dtype=np.float32)[:, None] + np.float32(0.5 - middle[0])
    across = np.arange(size, dtype=np.float32)[None] + np.float32(0.5 - middle[1])
    along = down * np.float32(np.cos(angle)) + across * np.float32(np.sin(angle))
    gap = np.abs(along - np.float32(spacing) * np.round(along / np.float32(spacing)))
    inside = (np.float32(radius) - np.sqrt(down * down + across * across)).clip(0, 1)
    cover = (np.float32(0.5 + rng.uniform(0.15, 0.3) * spacing) - gap).clip(0, 1) * inside
    canvas += (ink - canvas) * cover[..., None]


def _write_row(rng: np.random.Generator, canvas: Array, row: tuple[float, float], ink: Array) -> None:
    """One row of words at `row` (top, height)."""
    top, tall = int(row[0]), max(int(row[1]), 3)
    size = canvas.shape[0]
    wide = max(int(tall * float(rng.uniform(0.5, 0.75))), 2)
    pen = max(tall * float(rng.uniform(0.09, 0.2)), 0.7)
    glyphs = [_draw_glyph(rng, tall, wide, pen) for _ in range(8)]
    left = int(size * rng.uniform(0.02, 0.12))
    stop = int(size * rng.uniform(0.6, 1.0))
    while left + wide < stop:
        for _ in range(int(rng.integers(1, 9))):
            if left + wide >= stop:
                break
            window = canvas[top : top + tall, left : left + wide]
            window += (ink - window) * glyphs[int(rng.integers(len(glyphs)))][: window.shape[0], : window.shape[1], None]
            left += wide + max(int(pen), 1)
        left += max(wide // 2, 2)


def _draw_glyph(rng: np.random.Generator, tall: int, wide: int, pen: float) -> Array:
    """A mark of two to four strokes between the points of a 3 x 3 grid, as coverage `[tall, wide]`."""
    cover = np.zeros((tall, wide), np.float32)
    points = rng.integers(0, 3, (int(rng.integers(3, 6)), 2)) / 2
    places = pen / 2 + points * (np.array((tall, wide)) - pen)
    for start, end in pairwise(places):
        _cover_segment(cover, start.astype(np.float32), end.astype(np.float32), pen)
    return cover
