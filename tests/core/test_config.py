from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from eightfold.core.config import read_toml
from eightfold.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    sizes: tuple[int, ...] = (1,)
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    name: str | None = None
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError("steps must not be negative")


def read(folder: Path, text: str) -> Outer:
    path = folder / "config.toml"
    path.write_text(text)
    return read_toml(path, Outer)


def test_a_whole_file(tmp_path: Path) -> None:
    text = 'steps = 3\nrate = 1\nkind = "b"\nname = "x"\n[inner]\nsizes = [3, 4]\npairs = [["red", "cube"]]\n'
    expected = Outer(steps=3, rate=1.0, kind="b", name="x", inner=Inner(sizes=(3, 4), pairs=(("red", "cube"),)))
    found = read(tmp_path, text)
    assert found == expected
    assert type(found) is Outer and type(found.inner) is Inner and type(found.rate) is float


def test_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "steps = 3") == Outer(steps=3)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("", "steps"),
        ("steps = 1\nspeed = 2", "speed"),
        ("steps = 1\n[inner]\nsize = [1]", "inner.size"),
        ("steps = '1'", "steps"),
        ("steps = 1.5", "steps"),
        ("steps = true", "steps"),
        ("steps = 1979-05-27", "steps"),
        ("steps = -1", "negative"),
        ("steps = 1\nkind = 'c'", "kind"),
        ("steps = 1\nname = 3", "name"),
        ("steps = 1\ninner = 3", "inner"),
        ("steps = 1\n[inner]\nsizes = [1, 'x']", "inner.sizes.1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, setting: str) -> None:
    with pytest.raises(ConfigError, match=setting) as caught:
        read(tmp_path, text)
    assert "config.toml" in str(caught.value) and "\n" not in str(caught.value)
    settings = "sizes, pairs" if setting.startswith("inner") and setting != "inner" else "steps, rate, kind, name, inner"
    assert settings in caught.value.hint


def test_what_is_no_toml_file(tmp_path: Path) -> None:
    (tmp_path / "picture.toml").write_bytes(b"\x89PNG\r\n\xff")
    (tmp_path / "cut.toml").write_text("steps =")
    for path in (tmp_path / "picture.toml", tmp_path / "cut.toml", tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            read_toml(path, Outer)
        assert caught.value.hint


def test_the_hint_names_the_settings_of_the_table_that_is_wrong(tmp_path):
    from eightfold.training.config import AutoencoderConfig

    path = tmp_path / "run.toml"
    path.write_text('space = "pocket"\n[pictures]\nscenes = 1\n[schedule]\nstepz = 3\nsteps = 1\nbatch = 1\nrate = 1.0\n')
    with pytest.raises(ConfigError, match="stepz") as raised:
        read_toml(path, AutoencoderConfig)
    assert "steps" in raised.value.hint and "space" not in raised.value.hint
