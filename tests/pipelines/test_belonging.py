"""Autoencoders that fit several spaces: assumed, tried once, remembered, refused only where trying proves it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from eightfold.checkpoints.load import read_tensors
from eightfold.checkpoints.save import write_safetensors
from eightfold.cli.main import run
from eightfold.codec import load as loading
from eightfold.codec.load import build_codec
from eightfold.core.errors import SpaceMismatch
from eightfold.families.spaces import SD
from eightfold.pipelines import belonging
from eightfold.pipelines.belonging import check_latent, check_vae, is_tied
from eightfold.pipelines.bundle import load_autoencoder
from eightfold.pipelines.references import draw_references
from pocketfile import POCKET_FILE, write_photo
from toyspaces import FOUR, TOYS, draw_weights


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EIGHTFOLD_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def own():
    return load_autoencoder("pocket")


def build_foreign(own):
    """The same network, knowing nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tensors = {name: torch.randn_like(tensor) * 0.1 for name, tensor in own.network.state_dict().items()}
    return build_codec(tensors, {}, space=own.space, source="foreign.safetensors")


def test_a_tie_is_seen(tmp_path):
    toy = replace(TOYS["sd"], autoencoder=replace(FOUR, blocks=2))
    write_safetensors(tmp_path / "tied.safetensors", draw_weights(toy), {}, overwrite=False)
    assert is_tied(tmp_path / "tied.safetensors") and not is_tied(POCKET_FILE)


def test_what_fits_is_silent_and_what_does_not_is_refused(own):
    assert check_vae(own, own) == ()
    with pytest.raises(SpaceMismatch, match="dB lost") as caught:
        check_vae(own, build_foreign(own))
    assert "space pocket" in caught.value.hint


def test_each_pair_is_tried_once(own, monkeypatch):
    foreign, tried = build_foreign(own), []
    monkeypatch.setattr(belonging, "match_codecs", lambda *given: tried.append(given) or fail())
    for _ in range(2):
        assert len(check_vae(own, foreign)) == 1
    assert len(tried) == 1
    other = replace(foreign, decoder_fingerprint="other")
    assert "could not tell" in check_vae(own, other)[0] and len(tried) == 2


def fail():
    return belonging.Match(answer="cannot tell", proven=False, reasons=("neither",))


def test_latents(own):
    latent = replace(own.encode(draw_references(3)[12]), encoder="")
    assert check_latent(own, latent, "a file") == ()
    with pytest.raises(SpaceMismatch, match="a file with foreign"):
        check_latent(build_foreign(own), latent, "a file")


def test_decoding_with_a_tied_autoencoder(tmp_path, monkeypatch, capsys, own):
    """The pocket autoencoder in the place of sd's: its latents say sd, its tensors do not."""
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "photo.png", 40, 24)
    tensors = {name: tensor.float() for name, tensor in read_tensors(POCKET_FILE, "autoencoder.").items()}
    write_safetensors(tmp_path / "vae.safetensors", tensors, {}, overwrite=False)
    space = replace(SD, autoencoder=own.space.autoencoder, marks=own.space.marks, keymap=None, variants=())
    pair = [loading.to_candidate(space), loading.to_candidate(replace(space, name="sdxl"))]
    monkeypatch.setattr("eightfold.checkpoints.candidates.find_candidates", lambda _: pair)
    assert run(["encode", "photo.png", "--vae", "vae.safetensors"]) == 2  # encoding has to know
    assert "--space" in capsys.readouterr().err
    assert run(["encode", "photo.png", "--vae", "vae.safetensors", "--space", "sd"]) == 0
    assert run(["decode", "photo.latent.safetensors", "--vae", "vae.safetensors", "--out", "back.png"]) == 0
    assert "warning" not in capsys.readouterr().err
    foreign = {name: torch.randn_like(tensor) * 0.1 for name, tensor in tensors.items()}
    write_safetensors(tmp_path / "other.safetensors", foreign, {}, overwrite=False)
    assert run(["decode", "photo.latent.safetensors", "--vae", "other.safetensors", "--out", "no.png"]) == 2
    assert "not of one space" in capsys.readouterr().err and not (tmp_path / "no.png").exists()
    assert run(["decode", "photo.latent.safetensors", "--vae", "other.safetensors", "--out", "no.png", "--force"]) == 0
