"""Files known again by their content."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from eightfold.checkpoints import filehash
from eightfold.checkpoints.filehash import hash_file, hash_path, hash_weights
from eightfold.checkpoints.save import write_safetensors
from eightfold.core.errors import CheckpointError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(folder))
    filehash.find.cache_clear()
    return folder


def write(path: Path, value: float, **metadata: str) -> Path:
    write_safetensors(path, {"a.weight": torch.full((3,), value)}, metadata, overwrite=True)
    return path


def test_the_hash_of_a_file(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.safetensors", 1)
    assert hash_file(path) == hash_path(str(path)) == sha256(path.read_bytes()).hexdigest()
    assert list(cache.iterdir()) == []  # a small file is read again


def test_what_a1111_hashes_stays_when_metadata_change(tmp_path: Path) -> None:
    plain, named, other = (write(tmp_path / f"{name}.safetensors", value) for name, value in (("a", 1), ("b", 1), ("c", 2)))
    write(named, 1, title="x" * 100)
    data = plain.read_bytes()
    assert hash_weights(plain) == hash_weights(named) == sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    assert hash_file(plain) != hash_file(named) and hash_weights(other) != hash_weights(plain)
    assert hash_weights(write(named, 1, sshs_model_hash="0123456789abcdef")) == "0123456789abcdef"
    (tmp_path / "old.pt").write_bytes(b"weights")
    assert hash_weights(tmp_path / "old.pt") == hash_file(tmp_path / "old.pt") == sha256(b"weights").hexdigest()


def test_a_changed_file_has_another_hash(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", 1)
    before = hash_file(path)
    write(path, 2)
    os.utime(path, ns=(5, 5))
    assert hash_file(path) == sha256(path.read_bytes()).hexdigest() != before


def test_large_files_are_read_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filehash, "LARGE", 10)
    path = write(tmp_path / "a.safetensors", 1)
    first = hash_file(path)
    filehash.find.cache_clear()  # as in another process
    monkeypatch.setattr(filehash, "read_digest", lambda path, start=0: pytest.fail("the file was read again"))
    assert hash_file(path) == first
    monkeypatch.undo()
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(cache))
    monkeypatch.setattr(filehash, "LARGE", 10)
    write(path, 2)
    assert hash_file(path) == sha256(path.read_bytes()).hexdigest()
    for nonsense in ("{", "[]", json.dumps({f"file {path.absolute()}": [path.stat().st_size, path.stat().st_mtime_ns, 5]})):
        (cache / "hashes.json").write_text(nonsense)
        filehash.find.cache_clear()
        assert hash_file(path) == sha256(path.read_bytes()).hexdigest()


def test_a_folder_is_its_weight_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    write(folder / "unet" / "a.safetensors", 1)
    before = hash_path(folder)
    (folder / "readme.txt").write_text("x")
    assert hash_path(folder) == before
    write(folder / "b.safetensors", 1)
    assert hash_path(folder) != before


@pytest.mark.parametrize("name", ["missing.safetensors", "a\0b"])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="cannot read"):
        hash_file(tmp_path / name)
