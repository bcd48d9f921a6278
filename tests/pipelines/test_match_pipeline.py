"""Two files that belong together, and two that do not, found by trying."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.checkpoints.fingerprint import fingerprint
from eightfold.checkpoints.kinship import draw_sketch, is_kin
from eightfold.checkpoints.load import read_tensors
from eightfold.checkpoints.save import write_safetensors
from eightfold.core.errors import CheckpointError, RequestError
from eightfold.pipelines.bundle import load_autoencoder
from eightfold.pipelines.match import match
from eightfold.pipelines.references import draw_references
from pocketfile import POCKET_FILE

PART = "autoencoder."
FEW = 6


@pytest.fixture(scope="module")
def images():
    return draw_references()[::5][:FEW]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The pocket autoencoder in float32, in float16, with its decoder trained further, with a decoder that knows nothing, and a latent."""
    folder = tmp_path_factory.mktemp("autoencoders")
    own = {name: tensor.float() for name, tensor in read_tensors(POCKET_FILE, PART).items()}
    network = KLAutoencoder(load_autoencoder("pocket").space.autoencoder)
    network.load_state_dict(own)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = KLAutoencoder(load_autoencoder("pocket").space.autoencoder).state_dict()
    sets = {
        "own": own,
        "half": {name: tensor.half() for name, tensor in own.items()},
        "trained": {name: tensor.clone() for name, tensor in train_decoder(network).state_dict().items()},
        "fresh": {name: fresh[name] if name.startswith(("decoder.", "post_quant_conv.")) else tensor for name, tensor in own.items()},
    }
    for name, tensors in sets.items():
        write_safetensors(folder / f"{name}.safetensors", tensors, {}, overwrite=False)
    load_autoencoder("pocket").encode(draw_references(3)[12]).save(folder / "pocket.latent.safetensors")
    return folder


def train_decoder(network, steps=100):
    """The decoder alone, on small pictures."""
    network.train().requires_grad_(False)
    for part in (network.decoder, network.post_quant_conv):
        part.requires_grad_(True)
    optimiser = torch.optim.AdamW([one for one in network.parameters() if one.requires_grad], lr=2e-4)
    pictures = torch.cat(draw_references(7))
    for step in range(steps):
        batch = pictures[[step % 32, (step * 7 + 3) % 32], :, :32, :32]
        with torch.no_grad():
            raw = network.encode(batch).mean
        loss = (network.decode(raw) - batch).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.requires_grad_(False).eval()


def test_a_decoder_trained_further_matches(files, images):
    found = match(files / "own.safetensors", files / "trained.safetensors", images=images)
    assert (found.answer, found.proven) == ("match", False)
    assert "the same encoder, by fingerprint" in found.reasons and len(found.figures) == 4
    again = match(files / "trained.safetensors", POCKET_FILE, images=images)  # a whole model's autoencoder
    assert again.answer == "match"


def test_a_fresh_decoder_does_not(files, images):
    found = match(files / "own.safetensors", files / "fresh.safetensors", images=images)
    assert found.answer == "mismatch" and found.figures["first to first"] > found.figures["first to second"] + 12
    assert match(files / "fresh.safetensors", files / "fresh.safetensors").proven


def test_other_dtypes_of_the_same_weights_are_known(files, images):
    tensors = {name: read_tensors(files / f"{name}.safetensors") for name in ("own", "half", "trained", "fresh")}
    sketches = {name: draw_sketch(some) for name, some in tensors.items()}
    assert is_kin(sketches["own"], sketches["half"]) and is_kin(sketches["half"], sketches["own"])
    assert is_kin(sketches["own"], draw_sketch({name: tensor.bfloat16() for name, tensor in tensors["own"].items()}))
    assert not is_kin(sketches["own"], sketches["fresh"]) and not is_kin(sketches["own"], sketches["trained"])
    assert not is_kin({}, {}) and not is_kin(sketches["own"], dict(list(sketches["own"].items())[1:]))
    found = match(files / "half.safetensors", files / "own.safetensors", images=images)
    assert found.proven and found.answer == "match" and not found.figures
    flipped = {**tensors["own"], "decoder.conv_out.weight": tensors["own"]["decoder.conv_out.weight"].flip(0)}  # the same norm
    assert not is_kin(sketches["own"], draw_sketch(flipped))
    assert fingerprint(flipped) != fingerprint(tensors["own"])


def test_a_latent_and_an_autoencoder(files):
    latent = files / "pocket.latent.safetensors"
    assert match(latent, "/".join([str(files), "half.safetensors"])).answer == "match"
    assert match(POCKET_FILE, latent).proven
    trained = match(latent, files / "trained.safetensors")
    assert trained.answer == "match"
    assert match(latent, latent).proven
    fresh = match(files / "fresh.safetensors", latent)
    assert fresh.answer != "match"


def test_what_cannot_be_matched(tmp_path, files):
    write_safetensors(tmp_path / "nothing.safetensors", {"a": torch.zeros(2)}, {}, overwrite=False)
    with pytest.raises(CheckpointError, match="no model, autoencoder or latent"):
        match(tmp_path / "nothing.safetensors", POCKET_FILE)
    comfy = {"latent_tensor": torch.zeros(1, 4, 8, 8), "latent_format_version_0": torch.zeros(0)}
    write_safetensors(tmp_path / "a.latent", comfy, {}, overwrite=False)
    with pytest.raises(RequestError, match="ComfyUI"):
        match(tmp_path / "a.latent", POCKET_FILE)


def test_facts_are_compared_without_torch():
    code = "import sys; import eightfold.checkpoints.match, eightfold.checkpoints.known; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
