from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from eightfold.core.errors import OutputError
from eightfold.core.files import refuse_existing, write_atomically


def test_the_file_appears_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    with write_atomically(path, overwrite=False) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists()
        assert temporary.parent == path.parent and temporary.suffix == ".bin"
    assert path.read_bytes() == b"whole"
    assert [one.name for one in path.parent.iterdir()] == ["a.bin"]


def test_rights_are_those_of_a_plain_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with write_atomically(tmp_path / "a", overwrite=False):
        pass
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_nothing(tmp_path: Path, overwrite: bool, error: type[BaseException]) -> None:
    path = tmp_path / "a"
    if overwrite:
        path.write_bytes(b"old")
    with pytest.raises(error), write_atomically(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert [one.name for one in tmp_path.iterdir()] == (["a"] if overwrite else [])
    assert not overwrite or path.read_bytes() == b"old"


def test_an_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already") as caught, write_atomically(path, overwrite=False):
        pytest.fail("the work was begun")
    assert "--overwrite" in caught.value.hint
    assert path.read_bytes() == b"old"
    with write_atomically(path, overwrite=True) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_made_meanwhile_by_another_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    path = tmp_path / "a"
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no hard links")))
    with pytest.raises(OutputError, match="exists already"), write_atomically(path, overwrite=False) as temporary:
        temporary.write_bytes(b"mine")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_without_hard_links_the_file_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no hard links")))
    with write_atomically(tmp_path / "a", overwrite=False) as temporary:
        temporary.write_bytes(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_link_that_leads_nowhere_is_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        refuse_existing(path, overwrite=False)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a", tmp_path / "folder", Path("/"), tmp_path / ("a" * 300)):
        with pytest.raises(OutputError) as caught, write_atomically(path, overwrite=True):
            pass
        assert caught.value.hint and "\n" not in str(caught.value)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder"]


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 251 + ".png")
    with write_atomically(path, overwrite=False):
        pass
    assert path.exists()
