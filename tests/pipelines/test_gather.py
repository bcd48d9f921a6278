"""Which pictures are meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from eightfold.core.errors import ImageError
from eightfold.pipelines.gather import list_pictures


def test_a_folder_is_its_pictures_by_name(tmp_path: Path) -> None:
    names = ["b.PNG", "a.jpg", "c.webp", "d.tif", ".hidden.png", "notes.txt", "a.roundtrip.png", "e", "movie.mp4"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "deep.png").touch()
    assert [path.name for path in list_pictures([tmp_path])] == ["a.jpg", "b.PNG", "c.webp", "d.tif"]


def test_files_stay_as_they_are_named_and_come_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    named = [Path("gone.png"), tmp_path / "a.png", Path("x.roundtrip.png"), tmp_path, Path("gone.png")]
    assert list_pictures(named) == [Path("gone.png"), tmp_path / "a.png", Path("x.roundtrip.png")]


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ImageError, match="no picture in it"):
        list_pictures([tmp_path])
