"""Line plots."""

from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

import pytest

from eightfold.pipelines.plot import HEIGHT, WIDTH, draw_lines


def read_points(svg: str) -> list[list[tuple[float, float]]]:
    lines = [line.get("points", "") for line in fromstring(svg).iter("polyline")]
    return [[(float(x), float(y)) for x, y in (point.split(",") for point in line.split())] for line in lines]


def test_lines_rise_and_fall_as_the_values_do() -> None:
    first, second = read_points(draw_lines("PSNR", {"a": [30.0, 28.0, 27.0], "b": [20.0, 25.0, 26.0]}))
    assert [x for x, _ in first] == sorted({x for x, _ in first}) == [x for x, _ in second]
    assert first[0][1] < first[1][1] < first[2][1] and second[0][1] > second[1][1] > second[2][1]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in first + second)


@pytest.mark.parametrize("line", [[], [1.0], [2.0, 2.0], [None, None], [None, 3.0], [1.0] * 200])
def test_odd_series(line: list[float | None]) -> None:
    (points,) = read_points(draw_lines("FLIP", {"a": line}))
    assert len(points) == sum(value is not None for value in line)


def test_names_cannot_break_out() -> None:
    svg: Element = fromstring(draw_lines("<\"&'>", {"</g><script>": [1.0, 2.0]}))
    assert not list(svg.iter("script")) and [title.text for title in svg.iter("title")] == ["</g><script>"]
