"""Batches: what is planned, made, skipped and kept."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, PngImagePlugin

from eightfold.codec.codec import Codec
from eightfold.codec.latentfile import read_latent
from eightfold.codec.pixels import read_metadata, read_picture, write_picture
from eightfold.core.errors import EightfoldError, ImageError, LatentError, OutputError
from eightfold.pipelines import batch
from eightfold.pipelines.batch import Done, decode_all, encode_all
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.jobs import Job, build_kinds, list_jobs
from eightfold.pipelines.origin import hash_file, read_latent_origin, read_picture_origin
from pocketfile import build_latent, write_photo

PICTURES, LATENTS = build_kinds()


@pytest.fixture
def codec(model: Model) -> Codec:
    return model.codec


def to_state(done: Done) -> str:
    return "skipped" if done.skipped else "made" if done.error is None else str(done.error)


def run_one(run: Any) -> str:
    (done,) = run
    return to_state(done)


def build_job(source: Path, name: str) -> Job:
    return Job(source=source, target=source.parent / name)


def test_a_folder_is_all_that_fits_below_it(tmp_path: Path) -> None:
    for name in ["b.PNG", "a.jpg", "z.roundtrip.png", ".hidden.png", "notes.txt", "s/c.webp", "s/t/d.tif", ".h/e.png", "s/f.png.json"]:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere")
    jobs = list_jobs([tmp_path / "in", Path("x.png")], Path("out"), PICTURES)
    assert [str(job.source.relative_to(tmp_path / "in")) for job in jobs[:-1]] == ["a.jpg", "b.PNG", "gone.png", "s/c.webp", "s/t/d.tif"]
    endings = ["a", "b", "gone", "s/c", "s/t/d", "x"]
    assert [str(job.target) for job in jobs] == [f"out/{name}.latent.safetensors" for name in endings]
    assert not any(job.error for job in jobs)


def test_a_folder_of_latents(tmp_path: Path) -> None:
    for name in ["a.latent.safetensors", "b.latent", "vae.safetensors", "c.png"]:
        (tmp_path / name).touch()
    assert [str(job.target) for job in list_jobs([tmp_path], Path(), LATENTS)] == ["a.png", "b.png"]


@pytest.mark.parametrize(("kind", "error"), [(PICTURES, ImageError), (LATENTS, LatentError)])
def test_a_folder_with_nothing_in_it(tmp_path: Path, kind: Any, error: type[EightfoldError]) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(error, match="in it or in the folders in it") as raised:
        list_jobs([tmp_path], Path(), kind)
    assert raised.value.hint


def test_a_name_is_given_once(tmp_path: Path) -> None:
    """To the first; the same file named again is no second one."""
    for name in ["a.jpg", "a.png", "b.png"]:
        (tmp_path / name).touch()
    jobs = list_jobs([tmp_path, tmp_path / "b.png", tmp_path], Path("out"), PICTURES)
    assert [(job.source.name, job.error is None) for job in jobs[:2]] == [("a.jpg", True), ("b.png", True)]
    assert {job.source.name for job in jobs[2:]} == {"a.png"} and "as that of" in str(jobs[2].error)


def test_a_folder_in_it_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    jobs = list_jobs([tmp_path], Path(), PICTURES)
    assert [job.source.name for job in jobs] == ["a.png", "closed"] and jobs[0].error is None
    assert "Permission denied" in str(jobs[1].error)
    with pytest.raises(ImageError, match="cannot read"):
        list_jobs([tmp_path / "closed"], Path(), PICTURES)


def test_a_batch_makes_what_one_at_a_time_makes(codec: Codec, tmp_path: Path) -> None:
    sources = [write_photo(tmp_path / f"{seed}.png", 24 + 9 * seed, 17, seed=seed, alpha=seed == 1) for seed in range(4)]
    there = list(encode_all(codec, [build_job(path, f"{path.stem}.latent.safetensors") for path in sources], reading="sample", seed=3))
    for path, done in zip(sources, there, strict=True):
        latent = read_latent(done.job.target)
        expected = codec.encode(path, reading="sample", seed=3)
        assert torch.equal(latent.raw, expected.raw) and latent.notes == expected.notes
        assert latent.origin["source"] == hash_file(path) and latent.origin["seed"] == "3"
    assert [done.progress.number for done in there] == [1, 2, 3, 4] and {done.progress.total for done in there} == {4}
    back = list(decode_all(codec, [build_job(done.job.target, f"back{done.job.source.name}") for done in there]))
    for done in back:
        write_picture(tmp_path / "expected.png", codec.decode(done.job.source).image, overwrite=True)
        assert torch.equal(read_picture(done.job.target).image, read_picture(tmp_path / "expected.png").image)
        assert json.loads(read_metadata(done.job.target)["eightfold"])["origin"]["source"] == hash_file(done.job.source)
    made = sum(done.seconds for done in back)
    assert back[-1].progress.figures["images/s"] == pytest.approx(4 / made)


def test_a_second_run_skips_by_content(codec: Codec, tmp_path: Path) -> None:
    source = write_photo(tmp_path / "a.png", 24, 16)
    job = build_job(source, "a.latent.safetensors")
    assert run_one(encode_all(codec, [job])) == "made"
    before = job.target.stat().st_mtime_ns
    source.rename(tmp_path / "other.png")
    (tmp_path / "moved").mkdir()
    job.target.rename(tmp_path / "moved" / "b.safetensors")
    moved = Job(source=tmp_path / "other.png", target=tmp_path / "moved" / "b.safetensors")
    assert run_one(encode_all(codec, [moved])) == "skipped"
    assert moved.target.stat().st_mtime_ns == before
    assert run_one(encode_all(codec, [moved], overwrite=True)) == "made"
    write_photo(moved.source, 24, 16, seed=1)
    kept = moved.target.read_bytes()
    assert "something else than" in run_one(encode_all(codec, [moved])) and moved.target.read_bytes() == kept
    assert run_one(encode_all(codec, [moved], overwrite=True)) == "made" and moved.target.read_bytes() != kept


def test_other_settings_and_other_weights_are_not_the_same(codec: Codec, tmp_path: Path) -> None:
    job = build_job(write_photo(tmp_path / "a.png", 24, 16), "a.latent.safetensors")
    assert run_one(encode_all(codec, [job], reading="sample", seed=1)) == "made"
    assert run_one(encode_all(codec, [job], reading="sample", seed=1)) == "skipped"
    assert "seed 1 and not 2" in run_one(encode_all(codec, [job], reading="sample", seed=2))
    assert "reading sample and not mode" in run_one(encode_all(codec, [job]))
    assert "dtype" in run_one(encode_all(replace(codec, dtype=torch.bfloat16), [job], reading="sample", seed=1))
    assert "encoder" in run_one(encode_all(replace(codec, encoder_fingerprint="f" * 64), [job], reading="sample", seed=1))
    nameless = replace(codec, encoder_fingerprint="")
    assert "exists already and was kept" in run_one(encode_all(nameless, [job], reading="sample", seed=1))
    (done,) = encode_all(codec, [job])
    assert isinstance(done.error, OutputError) and "--overwrite" in done.error.hint


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_pictures_say_what_they_were_decoded_from(codec: Codec, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build_latent().save(tmp_path / "a.latent.safetensors")
    job = build_job(tmp_path / "a.latent.safetensors", f"a{ending}")
    assert run_one(decode_all(codec, [job])) == "made"

    def refuse(*_: Any) -> Any:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(Image.Image, "convert", refuse)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", refuse)
    assert read_picture_origin(job.target)["source"] == hash_file(job.source)
    assert run_one(decode_all(codec, [job])) == "skipped"
    assert "decoder" in run_one(decode_all(replace(codec, decoder_fingerprint="f" * 64), [job]))


RECORDS = ["", "no JSON", "[1]", "3", "null", '{"origin": 3}', '{"origin": {"source": 3}}', '{"origin": []}', "[" * 9000]


@pytest.mark.parametrize("text", RECORDS, ids=range(len(RECORDS)))
def test_what_is_not_ours_is_kept(codec: Codec, tmp_path: Path, text: str) -> None:
    build_latent().save(tmp_path / "a.latent.safetensors")
    job = build_job(tmp_path / "a.latent.safetensors", "a.png")
    write_picture(job.target, torch.zeros(1, 3, 4, 4), metadata={"eightfold": text})
    before = job.target.read_bytes()
    assert read_picture_origin(job.target) == {}
    assert "exists already and was kept" in run_one(decode_all(codec, [job])) and job.target.read_bytes() == before


def test_damaged_results_are_kept(codec: Codec, tmp_path: Path) -> None:
    source = write_photo(tmp_path / "a.png", 8, 8)
    for name, content in {"text": b"mine", "empty": b"", "half": source.read_bytes()[:40]}.items():
        (tmp_path / name).write_bytes(content)
        assert read_latent_origin(tmp_path / name) == {} == read_picture_origin(tmp_path / name)
        assert "was kept" in run_one(encode_all(codec, [build_job(source, name)])) and (tmp_path / name).read_bytes() == content
    assert hash_file(tmp_path) == hash_file(tmp_path / "gone") == hash_file(Path("x\0")) == ""


def test_a_bad_file_leaves_the_others(codec: Codec, tmp_path: Path) -> None:
    good = write_photo(tmp_path / "good.png", 8, 8)
    (tmp_path / "bad.png").write_text("no picture")
    refused = Job(source=good, target=tmp_path / "x", error=OutputError("cannot be"))
    jobs = [build_job(tmp_path / "bad.png", "b"), refused, build_job(good, "a"), build_job(tmp_path / "gone.png", "c")]
    states = [to_state(done) for done in encode_all(codec, jobs)]
    assert "not a picture" in states[0] and states[1:3] == ["cannot be", "made"] and "not there" in states[3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "bad.png", "good.png"]
    assert [done.progress.figures for done in encode_all(codec, jobs[:2])] == [{}, {}]


def test_too_little_memory_for_one_is_its_own_failure(codec: Codec, tmp_path: Path) -> None:
    class Narrow:
        def encode(self, image: torch.Tensor) -> Any:
            if image.shape[-1] > 8:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return codec.network.encode(image)

        def decode(self, raw: torch.Tensor) -> Any:
            raise NotImplementedError

    sources = [write_photo(tmp_path / "wide.png", 16, 8), write_photo(tmp_path / "small.png", 8, 8)]
    done = list(encode_all(replace(codec, network=Narrow()), [build_job(path, path.stem) for path in sources]))
    assert isinstance(done[0].error, RuntimeError) and to_state(done[1]) == "made"


def test_a_file_that_changes_while_it_is_read(codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_photo(tmp_path / "a.png", 8, 8)

    def read_late(path: Path) -> Any:
        picture = read_picture(path)
        write_photo(path, 16, 16)
        return picture

    monkeypatch.setattr(batch, "read_picture", read_late)
    assert "was changed while it was read" in run_one(encode_all(codec, [build_job(source, "a")]))
    assert not (tmp_path / "a").exists()


def test_latents_carry_their_origin(tmp_path: Path) -> None:
    latent = replace(build_latent(), origin={"source": "abc", "reading": "mode"})
    for name in ("a.safetensors", "b.latent"):
        latent.save(tmp_path / name)
        assert read_latent(tmp_path / name).origin == latent.origin == read_latent_origin(tmp_path / name)
