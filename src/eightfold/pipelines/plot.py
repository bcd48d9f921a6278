"""Small line plots as SVG text, in the colours of the page they stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .markup import to_html

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 34  # room for the numbers around
TICKS = 5
SERIES = 6  # so many looks of a line, `.s0` to `.s5` in the page's style


def draw_lines(title: str, series: Mapping[str, Sequence[float | None]]) -> str:
    """A line for each entry over 1, 2, 3 ...; what is None leaves a gap. The names are those in the page's legend, in order."""
    values = [value for line in series.values() for value in line if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    most = max((len(line) for line in series.values()), default=1)

    def to_x(cycle: int) -> float:
        return LEFT + (cycle - 1) / max(most - 1, 1) * (WIDTH - LEFT - RIGHT)

    def to_y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{to_html(title)} over cycles">']
    parts.append(f'<text x="{LEFT}" y="15" class="title">{to_html(title)}</text>')
    for step in range(TICKS):
        value = low + step / (TICKS - 1) * (high - low)
        y = to_y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for cycle in sorted({1 + round(step / (TICKS - 1) * (most - 1)) for step in range(TICKS)}):
        parts.append(f'<text x="{to_x(cycle):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{cycle}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 3}" text-anchor="middle">cycle</text>')
    for index, (name, line) in enumerate(series.items()):
        points = [(to_x(cycle), to_y(value)) for cycle, value in enumerate(line, 1) if value is not None]
        look = f"s{index % SERIES}"
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<g class="{look}"><title>{to_html(name)}</title><polyline points="{path}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in (points if most <= 20 else points[-1:])]
        parts.append("</g>")
    return "".join([*parts, "</svg>"])
