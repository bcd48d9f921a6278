"""Autoencoders out of files: variants, other layouts, ties, and the space without weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from eightfold.autoencoders.build import build_autoencoder
from eightfold.autoencoders.tiny import TinyAutoencoder
from eightfold.checkpoints.convert import to_original
from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.codec import Codec
from eightfold.codec.load import load_codec
from eightfold.codec.pixels import read_picture, write_picture
from eightfold.core.errors import AmbiguousCheckpoint, LatentError, SpaceMismatch, UnknownCheckpoint
from eightfold.families.keymaps.tiny import TINY
from eightfold.families.spaces import FLUX1, FLUX2, HUNYUAN, PIXELS, QWEN, SD, SD3, SDXL
from eightfold.specs.network import Flux2Config, TinyConfig
from eightfold.specs.space import Normalisation, Packing, Space
from layouts import read_layout
from weights import draw, randomise


def build_tiny(channels: int) -> dict[str, Tensor]:
    return randomise(TinyAutoencoder(TinyConfig(channels=channels)), seed=channels).state_dict()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    write_safetensors(path, build_tiny(4), {}, overwrite=False)
    return path


def test_a_tiny_one_is_of_several_spaces(tiny: Path) -> None:
    with pytest.raises(AmbiguousCheckpoint, match="sd, sdxl"):
        load_codec(tiny)
    assert [load_codec(tiny, space=name).space for name in ("sd", "sdxl")] == [SD, SDXL]
    with pytest.raises(SpaceMismatch, match="sd or sdxl, expected space flux1"):
        load_codec(tiny, space="flux1")


@pytest.mark.parametrize("name", ["sd", "sdxl"])
@torch.no_grad()
def test_a_tiny_one_speaks_latents_and_its_latents_are_raw_all_the_same(tiny: Path, name: str) -> None:
    """What the network says is what a denoiser of the space would see; the file has the raw latent, for any decoder of the space."""
    codec, image = load_codec(tiny, space=name), draw(1, 3, 16, 24).clamp(-1, 1)
    latent = codec.encode(image)
    said = codec.network.encode(image).mean
    assert latent.space == name and latent.raw.shape == (1, 4, 2, 3)
    assert torch.allclose(codec.normalise(latent.raw), said, atol=1e-5)
    assert torch.allclose(latent.raw, said / codec.space.normalisation.scale[0], atol=1e-3)  # type: ignore[union-attr]
    assert torch.allclose(codec.decode_raw(latent.raw), codec.network.decode(said).clamp(-1, 1), atol=1e-4)
    assert torch.equal(codec.encode(image, reading="sample", seed=1).raw, latent.raw)  # it is certain of what it says


def test_a_tiny_one_of_16_channels(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "tiny", build_tiny(16), {}, overwrite=False)
    assert [load_codec(tmp_path / "tiny", space=name).space for name in ("sd3", "flux1")] == [SD3, FLUX1]
    codec = load_codec(tmp_path / "tiny", space="flux1")
    raw = codec.encode(draw(1, 3, 8, 8).clamp(-1, 1)).raw
    assert torch.allclose(codec.network.encode(draw(1, 3, 8, 8).clamp(-1, 1)).mean, (raw - 0.1159) * 0.3611, atol=1e-5)


def to_comfy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {re.sub("^(encoder|decoder)", r"taesd_\1", name): tensor for name, tensor in tensors.items()}


def test_the_other_layouts_give_the_same(tiny: Path, tmp_path: Path) -> None:
    weights = build_tiny(4)
    original = to_original(weights, TINY)
    assert "decoder.1.weight" in original
    expected = load_codec(tiny, space="sd")
    parts = {"original": original, "comfy": to_comfy(original)}
    for prefix in ("first_stage_model.", "vae.", "autoencoder."):
        parts[f"whole {prefix}"] = {prefix + name: tensor for name, tensor in weights.items()} | {"model.diffusion_model.a": torch.zeros(1)}
    for name, tensors in parts.items():
        write_safetensors(tmp_path / name, tensors, {}, overwrite=False)
    (tmp_path / "folder" / "vae").mkdir(parents=True)
    (tmp_path / "folder" / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderTiny"]}')
    write_safetensors(tmp_path / "folder" / "vae" / "diffusion_pytorch_model.safetensors", weights, {}, overwrite=False)
    for name in (*parts, "folder", "folder/vae"):
        codec = load_codec(tmp_path / name, space="sd")
        assert (codec.encoder_fingerprint, codec.decoder_fingerprint) == (expected.encoder_fingerprint, expected.decoder_fingerprint), name
    torch.save({"state_dict": weights}, tmp_path / "tiny.ckpt")
    assert load_codec(tmp_path / "tiny.ckpt", space="sd").decoder_fingerprint == expected.decoder_fingerprint


def test_a_file_without_an_autoencoder(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "unet", {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, {}, overwrite=False)
    with pytest.raises(UnknownCheckpoint, match="holds no autoencoder; it has: denoiser"):
        load_codec(tmp_path / "unet")


def test_pixels_are_their_own_latents(tmp_path: Path) -> None:
    codec = load_codec("pixels")
    assert codec.space is PIXELS and load_codec("pixels", space="pixels").space is PIXELS
    write_picture(tmp_path / "a.png", draw(1, 3, 7, 11).clamp(-1, 1), overwrite=False)
    latent = codec.encode(tmp_path / "a.png")
    assert latent.raw.shape == (1, 3, 7, 11) and latent.padding == (0, 0, 0, 0)
    assert torch.equal(codec.normalise(latent.raw), read_picture(tmp_path / "a.png").image)
    latent.save(tmp_path / "a.latent.safetensors")
    assert torch.equal(codec.decode(tmp_path / "a.latent.safetensors").image, read_picture(tmp_path / "a.png").image)
    with pytest.raises(SpaceMismatch, match="expected space sd"):
        load_codec("pixels", space="sd")


def test_sides_are_padded_for_the_packing(tmp_path: Path) -> None:
    """A raw latent with an odd side could not be packed, so the picture is padded to twice the downscale; the raw latent stays unpacked."""
    config = Flux2Config(channels=4, width=16, decoder_width=16, multipliers=(1, 2), blocks=1, groups=8)
    space = Space(name="toy", autoencoder=config, normalisation=Normalisation(scale=(2.0,)), packing=Packing(side=2))
    network = randomise(build_autoencoder(config), seed=0)
    codec = Codec(network=network, space=space, normalisation=Normalisation(scale=(2.0,)))
    latent = codec.encode(draw(1, 3, 9, 6).clamp(-1, 1))
    assert latent.raw.shape == (1, 4, 6, 4) and latent.padding == (0, 0, 2, 3)
    assert codec.normalise(latent.raw).shape == (1, 16, 3, 2)
    assert torch.allclose(codec.denormalise(codec.normalise(latent.raw)), latent.raw, atol=1e-6)
    assert codec.decode(latent).image.shape == (1, 3, 9, 6)
    with pytest.raises(LatentError, match="3x2 cells cannot be packed"):
        codec.normalise(draw(1, 4, 2, 3))


def draw_public(layout: str) -> dict[str, Tensor]:
    """Half-precision tensors of every name and shape in a public autoencoder, such that signals keep a size of about 1."""
    tensors = {}
    for seed, (name, shape) in enumerate(read_layout(layout).items()):
        tensor = draw(*shape, seed=seed)
        scale = tensor[0].numel() ** -0.5 if len(shape) > 1 and "gamma" not in name else 0.2
        tensors[name] = (tensor * scale + (1 if "norm" in name or "gamma" in name or "var" in name else 0)).half()
    return tensors | ({"bn.num_batches_tracked": torch.tensor(1)} if "bn.num_batches_tracked" in tensors else {})


@pytest.mark.long
@pytest.mark.parametrize(
    ("space", "ours", "theirs", "prefix"),
    [
        (SD, "sd1_vae", "sd_vae", "first_stage_model."),
        (SDXL, "sdxl_vae", "sd_vae", "first_stage_model."),
        (SD3, "sd3_vae", "sd3_vae", "first_stage_model."),
        (FLUX1, "flux1_vae", "flux1_vae", ""),
        (FLUX2, "flux2_vae", "flux2_vae", ""),
        (QWEN, "qwen-image_vae", "qwen-image_vae", ""),
        (HUNYUAN, "hunyuan-image-2.1_vae", "hunyuan-image-2.1_vae", "vae."),
    ],
    ids=lambda one: one.name if isinstance(one, Space) else "",
)
def test_public_autoencoders_in_both_layouts(tmp_path: Path, space: Space, ours: str, theirs: str, prefix: str) -> None:
    weights = draw_public(ours)
    write_safetensors(tmp_path / "ours", weights, {}, overwrite=False)
    assert space.keymap is not None
    original = {f"{prefix}{name}": tensor.contiguous() for name, tensor in to_original(weights, space.keymap).items()}
    assert {name.removeprefix(prefix) for name in original} == {*read_layout(f"{theirs}.original")}
    write_safetensors(tmp_path / "original", original, {}, overwrite=False)
    del weights, original
    first, second = (load_codec(tmp_path / name, space=space.name) for name in ("ours", "original"))
    assert first.space is second.space is space and first.normalisation == second.normalisation
    assert (first.encoder_fingerprint, first.decoder_fingerprint) == (second.encoder_fingerprint, second.decoder_fingerprint)
    latent = first.encode(draw(1, 3, 32, 32).clamp(-1, 1))
    assert torch.equal(latent.raw, second.encode(draw(1, 3, 32, 32).clamp(-1, 1)).raw) and latent.raw.std() > 0.01
    assert torch.equal(first.decode(latent).image, second.decode(latent).image)
