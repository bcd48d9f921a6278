"""eightfold sheet, as a user types it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eightfold.codec.pixels import read_metadata, read_picture


def test_two_fields(eightfold: Any, tmp_path: Path) -> None:
    options = ("--size", "32x24", "--across", "steps=1,2,3", "--down", "sampler=euler,heun", "--json")
    answer = eightfold("sheet", "a red cube", *options)
    assert answer.code == 0
    result = answer.results[0]
    assert result["cells"][:4] == ["steps 1, sampler euler", "steps 2, sampler euler", "steps 3, sampler euler", "steps 1, sampler heun"]
    picture = read_picture(tmp_path / "a-red-cube-sheet.png")
    assert picture.width == 3 * (32 + 6) + 6 and picture.height > 2 * 24
    assert "steps=1,2,3" in read_metadata(tmp_path / "a-red-cube-sheet.png")["eightfold"]


def test_values_with_commas_and_sizes(eightfold: Any) -> None:
    options = ("--steps", "1", "--across", "prompt=a red cube|a small, blue ball", "--down", "size=16x16,32x16", "--json")
    result = eightfold("sheet", "a cube", *options).results[0]
    assert result["cells"][1] == "prompt a small, blue ball, size 16x16" and result["cells"][2].endswith("size 32x16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--across", "steps"), "not FIELD=VALUE"),
        (("--across", "stpes=1"), "unknown field 'stpes'"),
        (("--across", "steps=a"), "steps is a number"),
        (("--across", "steps="), "has no values"),
        (("--across", "steps=1", "--down", "steps=2"), "both across and down"),
        (("--across", "steps=1,0"), "steps: 0"),
        (("--across", "steps=1", "--count", "2"), "one picture a cell"),
    ],
)
def test_what_cannot_be(refuse: Any, options: tuple[str, ...], message: str) -> None:
    assert message in refuse("sheet", "a red cube", "--size", "16x16", *options)
