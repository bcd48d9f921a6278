"""docs/latent-space.md: its pictures are there and small, its tables filled, and filling it again leaves the rest of it alone."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from eightfold.core.errors import EightfoldError

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "latent-space.md"
TEXT = PAGE.read_text(encoding="utf-8")
SLOT = re.compile(r"<!-- table: ([\w-]+) -->\n(.*?)<!-- end -->", re.DOTALL)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The names of examples/latent_space_page.py, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    return runpy.run_path(str(ROOT / "examples" / "latent_space_page.py"))


def test_the_pictures_are_there_and_small():
    linked = re.findall(r"\]\((pictures/[\w.-]+)\)", TEXT)
    assert {*linked} == {f"pictures/{path.name}" for path in PAGE.parent.glob("pictures/latent-space-*.png")}
    assert all((PAGE.parent / path).stat().st_size < 200_000 for path in linked)


def test_the_tables_are_filled():
    slots = dict(SLOT.findall(TEXT))
    assert {"roundtrip", "walk", "cost", "twins", "unseen", "sizes", "wrong"} == {*slots}
    for name, table in slots.items():
        lines = table.strip().splitlines()
        assert len(lines) >= 3 and len({line.count("|") for line in lines}) == 1, name


def test_filling_replaces_tables_alone(page):
    before = "# A\n\n<!-- table: a -->\n<!-- end -->\n\ntext\n\n<!-- table: b -->\n\nold\n\n<!-- end -->\nend\n"
    page["PAGE"].write_text(before)
    table = page["to_table"](["", "x"], [["y", "1"]])
    page["fill_page"]({"b": table})
    once = page["PAGE"].read_text()
    assert SLOT.findall(once) == [("a", ""), ("b", "\n|  | x |\n| --- | ---: |\n| y | 1 |\n\n")]
    assert SLOT.sub("", once) == SLOT.sub("", before)
    page["fill_page"]({"b": table})
    assert page["PAGE"].read_text() == once
    with pytest.raises(EightfoldError, match="no place for the table c"):
        page["fill_page"]({"c": table})


def test_what_was_measured_is_kept(page):
    import torch

    calls = []

    def make(value):
        calls.append(value)
        return page["Section"]({"a": str(value)}, {"p": torch.zeros(1, 3, 8, 8)})

    assert page["keep"]("one", ["weights"], make, 1) == page["keep"]("one", ["weights"], make, 2) == {"a": "1"}
    assert page["keep"]("one", ["other weights"], make, 3) == {"a": "3"} and calls == [1, 3]
    assert (Path("docs") / "pictures" / "latent-space-p.png").stat().st_size > 0
