"""ComfyUI's latent files, read and written."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from eightfold.codec.latentfile import Latent, Padding, read_latent
from eightfold.core.errors import LatentError
from eightfold.families.spaces import FLUX2, POCKET, SD, SD3
from eightfold.pipelines.bundle import load_autoencoder
from pocketfile import read_pixels, read_size, write_photo

MARKED = "latent_format_version_0"


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def write_theirs(path, raw, *, marked=True, **more):
    """As ComfyUI's node "Save Latent" writes it; before the format had a version, scaled."""
    tensors = {"latent_tensor": raw if marked else raw * 0.18215}
    if marked:
        tensors[MARKED] = torch.tensor([])
    save_file(tensors | more, path, {"prompt": "{}", "workflow": json.dumps({"nodes": []})})
    return path


def build_latent(**changes):
    facts = {
        "raw": draw(1, 4, 3, 5),
        "space": "sd",
        "width": 33,
        "height": 23,
        "padding": Padding(0, 0, 7, 1),
        "reading": "sample",
        "seed": 3,
    }
    return Latent(**(facts | changes))


def refused(path, space=SD):
    with pytest.raises(LatentError) as caught:
        read_latent(path, space=space)
    assert "\n" not in str(caught.value) and caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_theirs_are_read_as_they_are(tmp_path, dtype):
    raw = draw(1, 4, 6, 7).to(dtype)
    latent = read_latent(write_theirs(tmp_path / "a.latent", raw), space=SD)
    assert torch.equal(latent.raw, raw.float()) and latent.raw.dtype == torch.float32
    assert (latent.space, latent.width, latent.height, latent.padding) == ("sd", 56, 48, Padding(0, 0, 0, 0))
    assert latent.encoder == "" and latent.alpha is None and latent.seed is None


def test_files_without_the_mark_were_scaled(tmp_path):
    raw = draw(1, 4, 6, 7)
    found = read_latent(write_theirs(tmp_path / "a.latent", raw, marked=False), space=POCKET).raw
    assert torch.allclose(found, raw, atol=1e-6)


def test_a_single_frame_is_a_picture(tmp_path):
    raw = draw(1, 16, 1, 6, 7)
    assert torch.equal(read_latent(write_theirs(tmp_path / "a.latent", raw), space=SD3).raw, raw[:, :, 0])


def test_the_space_is_asked_for(tmp_path):
    path = write_theirs(tmp_path / "a.latent", draw(1, 4, 6, 7))
    assert "4 channels" in refused(path, None)
    assert "4 channels, space sd3 has 16" in refused(path, SD3)
    assert "packed" in refused(write_theirs(tmp_path / "b.latent", draw(1, 128, 3, 3)), FLUX2)


@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (1, 4, 2, 3, 3), (1, 4, 3), (4,), (1, 4, 0, 3), (1, 4, 1, 3, 3, 3)], ids=str)
def test_other_shapes_are_refused(tmp_path, shape):
    refused(write_theirs(tmp_path / "a.latent", draw(*shape)))


def test_other_numbers_are_refused(tmp_path):
    refused(write_theirs(tmp_path / "a.latent", torch.ones(1, 4, 3, 3, dtype=torch.int32)))
    assert "finite" in refused(write_theirs(tmp_path / "b.latent", torch.full((1, 4, 3, 3), torch.nan)))


@pytest.mark.parametrize("clear", [False, True])
def test_ours_come_back_whole(tmp_path, clear):
    latent = build_latent(alpha=torch.arange(33 * 23).remainder(256).to(torch.uint8).reshape(1, 1, 23, 33) if clear else None)
    latent.save(tmp_path / "a.latent")
    found = read_latent(tmp_path / "a.latent")
    assert torch.equal(found.raw, latent.raw)
    assert (found.alpha is None) == (not clear) and (not clear or torch.equal(found.alpha, latent.alpha))
    for name in ("space", "width", "height", "padding", "reading", "seed"):
        assert getattr(found, name) == getattr(latent, name)


def test_ours_are_what_comfyui_loads(tmp_path):
    """Its loader takes `latent_tensor`, and multiplies it by 1 / 0.18215 unless the mark is there."""
    latent = build_latent()
    latent.save(tmp_path / "a.latent")
    tensors = load_file(tmp_path / "a.latent")
    assert torch.equal(tensors["latent_tensor"], latent.raw) and tensors[MARKED].numel() == 0
    assert "latent" not in tensors


def test_another_packing_is_not_written(tmp_path):
    latent = build_latent(raw=draw(1, 32, 4, 4), space="flux2", width=32, height=32, padding=Padding(0, 0, 0, 0))
    with pytest.raises(LatentError, match="128 channels"):
        latent.save(tmp_path / "a.latent")
    assert not (tmp_path / "a.latent").exists()


def test_through_an_autoencoder(tmp_path):
    """What another program made of the pixels decodes as our own latent of the same values does."""
    codec = load_autoencoder("pocket", device="cpu", dtype="float32")
    latent = codec.encode(write_photo(tmp_path / "photo.png", 24, 16))
    write_theirs(tmp_path / "theirs.latent", latent.raw)
    latent.save(tmp_path / "ours.latent")
    expected = codec.decode(latent).image
    for name in ("theirs", "ours"):
        assert torch.equal(codec.decode(tmp_path / f"{name}.latent").image, expected)


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    from eightfold.cli.main import run

    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "photo.png", 30, 20)
    assert run(["encode", "photo.png", "--out", "photo.latent"]) == 0
    assert run(["decode", "photo.latent", "--out", "back"]) == 0
    assert read_size(tmp_path / "back" / "photo.png") == (30, 20)
    write_theirs(tmp_path / "bare.latent", read_latent(tmp_path / "photo.latent").raw)
    assert run(["decode", "bare.latent"]) == 0
    assert read_size(tmp_path / "bare.png") == (32, 24)
    assert (read_pixels(tmp_path / "bare.png")[:20, :30] == read_pixels(tmp_path / "back" / "photo.png")).all()
    write_theirs(tmp_path / "other.latent", draw(1, 16, 3, 3))
    capsys.readouterr()
    assert run(["decode", "other.latent"]) == 2
    said = capsys.readouterr().err
    assert "16 channels" in said and "Hint: " in said and said.count("\n") == 1
