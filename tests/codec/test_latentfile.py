from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from eightfold.checkpoints.formats import read_safetensors_header
from eightfold.codec.latentfile import Latent, Padding, read_latent
from eightfold.core.errors import LatentError, OutputError


def build_latent(**changes: Any) -> Latent:
    raw = torch.randn(1, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    latent = Latent(
        raw=raw, space="sd", width=33, height=23, padding=Padding(0, 0, 7, 1), reading="mode", versions={"eightfold": "1", "torch": "2"}
    )
    return replace(latent, **changes)


def build_metadata(**changes: str | None) -> dict[str, str]:
    metadata = {"latent": "1", "space": "sd", "width": "33", "height": "23", "padding": "[0, 0, 7, 1]", "reading": "mode"}
    metadata |= {"encoder": "", "decoder": "", "versions": "{}"}
    return {f"eightfold.{key}": value for key, value in {**metadata, **changes}.items() if value is not None}


def refused(path: Path) -> LatentError:
    with pytest.raises(LatentError) as caught:
        read_latent(path)
    assert "\n" not in str(caught.value) and caught.value.hint
    return caught.value


def assert_same(found: Latent, expected: Latent) -> None:
    assert torch.equal(found.raw, expected.raw) and found.raw.dtype == torch.float32
    assert (found.alpha is None) == (expected.alpha is None)
    if found.alpha is not None and expected.alpha is not None:
        assert torch.equal(found.alpha, expected.alpha)
    names = ("space", "width", "height", "padding", "reading", "seed", "encoder", "decoder", "versions")
    assert {name: getattr(found, name) for name in names} == {name: getattr(expected, name) for name in names}


@settings(max_examples=25)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    seed=st.one_of(st.none(), st.integers(-(2**70), 2**70)),
    clear=st.booleans(),
    space=st.sampled_from(["sd", "pocket", "another"]),
)
def test_everything_comes_back(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, seed: int | None, clear: bool, space: str
) -> None:
    path = tmp_path_factory.mktemp("latent") / "a.latent.safetensors"
    right, bottom = -width % 8, -height % 8
    raw = torch.randn(1, 4, (height + bottom) // 8, (width + right) // 8)
    latent = Latent(
        raw=raw,
        space=space,
        width=width,
        height=height,
        padding=Padding(right // 2, bottom // 2, right - right // 2, bottom - bottom // 2),
        reading="mode" if seed is None else "sample",
        seed=seed,
        encoder="ab" * 32,
        decoder="cd" * 32,
        versions={"torch": "2.13", "eightfold": "0.1"},
        alpha=torch.randint(0, 256, (1, 1, height, width), dtype=torch.uint8) if clear else None,
    )
    latent.save(path)
    assert_same(read_latent(path), latent)


def test_the_file_is_what_the_documentation_says(tmp_path: Path) -> None:
    path = tmp_path / "a.latent.safetensors"
    build_latent(seed=7, reading="sample", encoder="e", decoder="d").save(path)
    assert list(load_file(path)) == ["latent"]
    tensors, metadata = read_safetensors_header(path)
    assert tensors["latent"].dtype == "F32" and tensors["latent"].shape == (1, 4, 3, 5)
    assert metadata == build_metadata(seed="7", reading="sample", encoder="e", decoder="d", versions='{"eightfold": "1", "torch": "2"}')


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.latent.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        build_latent().save(path)
    assert path.read_bytes() == b"old" and [one.name for one in tmp_path.iterdir()] == [path.name]
    build_latent().save(path, overwrite=True)
    assert_same(read_latent(path), build_latent())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"raw": torch.full((1, 4, 3, 5), float("nan"))}, "60 values of 60 that are not finite"),
        ({"raw": torch.zeros(1, 4, 3, 4)}, "does not fill 4x3 cells"),
        ({"raw": torch.zeros(1, 3, 3, 5)}, "3 channels"),
        ({"raw": torch.zeros(4, 3, 5)}, "shape"),
        ({"raw": torch.zeros(2, 4, 3, 5)}, "shape"),
        ({"width": 34}, "does not fill"),
        ({"alpha": torch.zeros(1, 1, 33, 23, dtype=torch.uint8)}, "alpha"),
    ],
)
def test_a_latent_that_could_not_be_read_is_not_written(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(LatentError, match=why):
        build_latent(**changes).save(tmp_path / "a.latent.safetensors")
    assert [one.name for one in tmp_path.iterdir()] == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_counted(tmp_path: Path, value: float) -> None:
    raw = torch.zeros(1, 4, 3, 5)
    raw[0, 1, 2, :2] = value
    save_file({"latent": raw}, tmp_path / "a", metadata=build_metadata())
    error = refused(tmp_path / "a")
    assert "2 values of 60 that are not finite" in str(error) and "float32" in error.hint


def test_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("This is a text and not a latent file.")
    (tmp_path / "empty").touch()
    save_file({"latent": torch.zeros(1, 4, 3, 5)}, tmp_path / "unmarked")
    save_file({"weight": torch.zeros(1, 4, 3, 5)}, tmp_path / "weights", metadata={"eightfold.latent": "1"})
    save_file({"latent": torch.zeros(1, 4, 3, 5)}, tmp_path / "newer", metadata=build_metadata(latent="2"))
    said = {
        "text": "text file",
        "empty": "empty",
        "unmarked": "not a latent",
        "weights": "not a latent",
        "newer": "version '2'",
        "missing": "No such file",
    }
    for name, why in said.items():
        assert why in str(refused(tmp_path / name)), name
    assert "folder" in str(refused(tmp_path))


def test_every_way_to_cut_a_file_short_is_refused(tmp_path: Path) -> None:
    build_latent().save(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut").write_bytes(content[:length])
        refused(tmp_path / "cut")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1, 4, 3, 5).half(),
        torch.zeros(1, 4, 3, 5).long(),
        torch.zeros(4, 3, 5),
        torch.zeros(2, 4, 3, 5),
        torch.zeros(1, 4, 0, 5),
    ],
)
def test_tensors_of_another_kind(tmp_path: Path, tensor: Tensor) -> None:
    save_file({"latent": tensor}, tmp_path / "a", metadata=build_metadata())
    assert "expected F32[1, channels, height, width]" in str(refused(tmp_path / "a"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, None) for key in ("space", "width", "height", "padding", "reading", "encoder", "decoder", "versions")),
        *(("width", value) for value in ("0", "-33", "32", "x", "", "1e1", "9" * 30, "9" * 5000)),
        *(
            ("padding", value)
            for value in ("", "3", "[0, 0, 7]", "[0, 0, 7, 1.0]", "[1, 0, 7, 1]", "[0, 0, 8, 0]", "[-7, 0, 14, 1]", "{}", "[" * 9999)
        ),
        ("reading", "median"),
        ("seed", "x"),
        ("versions", "[]"),
        ("space", "pocket-16"),
    ],
)
def test_metadata_that_cannot_be(tmp_path: Path, key: str, value: str | None) -> None:
    metadata = build_metadata(**{key: value})
    if (key, value) == ("space", "pocket-16"):
        metadata["eightfold.width"] = "29"  # 36 pixels over 5 cells
    save_file({"latent": torch.zeros(1, 4, 3, 5)}, tmp_path / "a", metadata=metadata)
    refused(tmp_path / "a")


def test_a_latent_of_an_unknown_space_is_read(tmp_path: Path) -> None:
    save_file({"latent": torch.zeros(1, 16, 3, 5)}, tmp_path / "a", metadata=build_metadata(space="another"))
    assert read_latent(tmp_path / "a").space == "another"


def test_sizes_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    side = 2**15
    with (tmp_path / "a").open("wb") as file:
        text = (
            f'{{"__metadata__": {{"eightfold.latent": "1"}}, "latent": {{"dtype": "F32", "shape": [1, 1, {side}, {side}],'
            f' "data_offsets": [0, {4 * side * side}]}}}}'
        ).encode()
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 4 * side * side)  # sparse: it takes no room
    assert "more than" in str(refused(tmp_path / "a"))
