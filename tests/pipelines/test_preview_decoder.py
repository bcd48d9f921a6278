"""Previews by a small decoder: TAESD whole, or as the two files that are published of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

from eightfold.autoencoders.tiny import TinyAutoencoder
from eightfold.checkpoints.identity import identify_file
from eightfold.checkpoints.translate import read_translation, write_translation
from eightfold.codec.load import load_codec
from eightfold.core.device import choose_placement
from eightfold.core.errors import CheckpointError, SpaceMismatch
from eightfold.pipelines.preview import load_preview
from eightfold.specs.network import TinyConfig
from eightfold.specs.space import Normalisation
from toyspaces import TOYS, build_toy_codec
from weights import draw, randomise

CPU = choose_placement("cpu")


def write_halves(folder: Path, channels: int = 4) -> TinyAutoencoder:
    """taesd_encoder and taesd_decoder as their author publishes them: numbered lists, in which the decoder's clamp counts."""
    network = randomise(TinyAutoencoder(TinyConfig(channels=channels)), seed=1)
    halves: dict[str, dict[str, torch.Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in network.state_dict().items():
        half, _, number, rest = name.split(".", 3)
        halves[half][f"{int(number) + (half == 'decoder')}.{rest}"] = tensor
    assert {"1.weight", "3.conv.0.weight", "19.bias"} <= halves["decoder"].keys()
    for half, tensors in halves.items():
        save_file(tensors, folder / f"taesd_{half}.safetensors")
    save_file(network.state_dict(), folder / "taesd.safetensors")
    return network


@pytest.mark.parametrize(("channels", "ties"), [(4, ("sd", "sdxl")), (16, ("sd3", "flux1"))])
def test_the_two_files_are_known(tmp_path: Path, channels: int, ties: tuple[str, ...]) -> None:
    write_halves(tmp_path, channels)
    for half in ("encoder", "decoder"):
        (found,) = identify_file(tmp_path / f"taesd_{half}.safetensors")
        assert (found.component, found.variant, found.ties, found.layout) == ("autoencoder", f"tiny-{half}", ties, "original")
    (found,) = identify_file(tmp_path / "taesd.safetensors")
    assert found.variant == "tiny"
    for layout, out in (("diffusers", "ours"), ("original", "again")):
        source = "taesd_decoder" if out == "ours" else "ours"
        [*write_translation(read_translation(tmp_path / f"{source}.safetensors", layout=layout), tmp_path / f"{out}.safetensors")]  # type: ignore[arg-type]
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "taesd_decoder.safetensors").read_bytes()
    (found,) = identify_file(tmp_path / "ours.safetensors")
    assert (found.variant, found.layout) == ("tiny-decoder", "diffusers")


@torch.no_grad()
def test_half_is_half(tmp_path: Path) -> None:
    network, latent, image = write_halves(tmp_path), draw(1, 4, 6, 5), draw(1, 3, 16, 24).tanh()
    decoder, encoder, whole = (load_codec(tmp_path / f"taesd{name}.safetensors", space="sd") for name in ("_decoder", "_encoder", ""))
    assert decoder.decoder_fingerprint == whole.decoder_fingerprint and encoder.encoder_fingerprint == whole.encoder_fingerprint
    assert decoder.encoder_fingerprint == encoder.decoder_fingerprint == ""
    theirs = AutoencoderTiny().eval()
    theirs.load_state_dict(network.state_dict())
    expected = theirs.decode(latent).sample.clamp(-1, 1)
    assert torch.allclose(decoder.decode_one(decoder.denormalise(latent)).image, expected, atol=1e-4)
    assert torch.equal(encoder.encode(image).raw, whole.encode(image).raw)
    with pytest.raises(CheckpointError, match="has no encoder"):
        decoder.encode(image)
    with pytest.raises(CheckpointError, match="has no decoder"):
        encoder.decode_one(latent)


def test_a_preview_is_of_the_models_own_latents(tmp_path: Path) -> None:
    """Whose normalisation may be another than that of the space."""
    write_halves(tmp_path)
    plain = build_toy_codec(TOYS["sd"])
    codec = replace(plain, normalisation=Normalisation(scale=(0.7,), shift=(0.3,)))
    latent = draw(1, 4, 6, 5)
    shown = [
        load_preview(tmp_path / "taesd_decoder.safetensors", one, CPU).decode_one(one.denormalise(latent)).image for one in (plain, codec)
    ]
    assert torch.allclose(*shown, atol=1e-4) and shown[0].shape == (1, 3, 48, 40)


def test_what_shows_nothing(tmp_path: Path) -> None:
    write_halves(tmp_path)
    with pytest.raises(CheckpointError, match="an encoder alone"):
        load_preview(tmp_path / "taesd_encoder.safetensors", build_toy_codec(TOYS["sd"]), CPU)
    with pytest.raises(SpaceMismatch, match="space sd or sdxl, expected space flux1"):
        load_preview(tmp_path / "taesd_decoder.safetensors", build_toy_codec(TOYS["flux1"]), CPU)
