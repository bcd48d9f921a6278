from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.codec import Codec
from eightfold.codec.latentfile import Padding
from eightfold.codec.load import build_codec, load_codec
from eightfold.codec.padding import crop, pad_to_multiple
from eightfold.codec.pixels import Picture, from_bytes, read_metadata, read_picture, to_bytes, write_picture
from eightfold.core.errors import CheckpointError, ImageError, LatentError, SpaceMismatch, UnknownCheckpoint, WeightMismatch
from eightfold.families.spaces import POCKET, SD
from eightfold.specs.network import KLConfig
from eightfold.specs.space import Normalisation, Space

TOY = Space(name="toy", autoencoder=KLConfig(channels=192, multipliers=(1, 1, 1, 1)), normalisation=Normalisation(scale=(1.0,)))


@dataclass
class Pair:
    mean: Tensor
    std: Tensor


class Folding:
    """An autoencoder without loss: the pixels of each 8x8 cell become 192 channels."""

    def encode(self, image: Tensor) -> Pair:
        mean = F.pixel_unshuffle(image, 8)
        return Pair(mean, torch.full_like(mean, 0.01))

    def decode(self, raw: Tensor) -> Tensor:
        return F.pixel_shuffle(raw, 8)


class Averaging:
    """Of the geometry of space sd: four channels, one cell for 8x8 pixels."""

    def encode(self, image: Tensor) -> Pair:
        mean = F.avg_pool2d(image, 8)
        mean = torch.cat([mean, mean.mean(1, keepdim=True)], dim=1)
        return Pair(mean, torch.ones_like(mean))

    def decode(self, raw: Tensor) -> Tensor:
        return F.interpolate(raw[:, :3], scale_factor=8)


class Broken(Folding):
    """One NaN in what it gives, as float16 has them."""

    def __init__(self, half: str) -> None:
        self.half = half

    def encode(self, image: Tensor) -> Pair:
        pair = super().encode(image)
        if self.half == "encoder":
            pair.mean[0, 0, 0, 0] = float("nan")
        return pair

    def decode(self, raw: Tensor) -> Tensor:
        return super().decode(raw).index_fill(3, torch.tensor([0]), float("inf" if self.half == "decoder" else 0))


def build_toy(**changes: Any) -> Codec:
    return replace(Codec(network=Folding(), space=TOY, normalisation=TOY.normalisation, source="toy.safetensors"), **changes)


def build_averaging(**changes: Any) -> Codec:
    return replace(Codec(network=Averaging(), space=SD, normalisation=SD.normalisation, source="sd.safetensors"), **changes)


@pytest.fixture(scope="module")
def pocket() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return KLAutoencoder(POCKET.autoencoder).state_dict()


def draw(height: int, width: int, seed: int = 0) -> Tensor:
    return from_bytes(torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8))


@settings(max_examples=40)
@given(height=st.integers(1, 40), width=st.integers(1, 40), multiple=st.sampled_from([1, 2, 8, 64]))
def test_padding_and_cropping(height: int, width: int, multiple: int) -> None:
    image = draw(height, width)
    padded, padding = pad_to_multiple(image, multiple)
    assert padded.shape[2] % multiple == padded.shape[3] % multiple == 0
    assert padded.shape[2] - height < multiple and padded.shape[3] - width < multiple
    assert padding == (0, 0, padded.shape[3] - width, padded.shape[2] - height)
    assert torch.equal(crop(padded, padding, width, height), image)
    rows = [row_of(position, height) for position in range(padded.shape[2])]
    columns = [row_of(position, width) for position in range(padded.shape[3])]
    assert torch.equal(padded, image[:, :, rows][:, :, :, columns])


def row_of(position: int, size: int) -> int:
    """Walk along the rows and turn round at each end."""
    at, step = 0, 1
    for _ in range(position):
        if not 0 <= at + step < size:
            step = -step
        at = at + step if size > 1 else 0
    return at


def test_padding_is_torch_s_reflection_where_that_reaches() -> None:
    image = draw(13, 21)
    assert torch.equal(pad_to_multiple(image, 16)[0], F.pad(image, (0, 11, 0, 3), mode="reflect"))


def test_cropping_takes_any_side() -> None:
    image = draw(16, 24)
    assert torch.equal(crop(image, Padding(3, 2, 1, 4), 20, 10), image[:, :, 2:12, 3:23])


@settings(max_examples=25)
@given(height=st.integers(1, 33), width=st.integers(1, 33), clear=st.booleans(), stored=st.booleans())
def test_a_lossless_autoencoder_gives_every_pixel_back(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, clear: bool, stored: bool
) -> None:
    alpha = torch.randint(0, 256, (1, 1, height, width)).float() / 255 if clear else None
    codec, picture = build_toy(), Picture(draw(height, width), alpha)
    latent = codec.encode(picture)
    if stored:
        path = tmp_path_factory.mktemp("codec") / "a.latent.safetensors"
        latent.save(path)
        found = codec.decode(path)
    else:
        found = codec.decode(latent)
    assert torch.equal(found.image, picture.image)
    assert (found.alpha is None) == (alpha is None)
    if alpha is not None and found.alpha is not None:
        assert torch.equal(found.alpha, alpha)


@pytest.mark.parametrize(("width", "height"), [(451, 300), (129, 7), (1, 1), (8, 16)])
def test_the_real_network_gives_the_same_size_back(pocket: dict[str, Tensor], tmp_path: Path, width: int, height: int) -> None:
    codec = build_codec(pocket, {}, space=POCKET, source="pocket")
    write_picture(tmp_path / "a.png", draw(height, width), overwrite=False)
    latent = codec.encode(tmp_path / "a.png")
    assert latent.raw.shape == (1, 4, -(-height // 8), -(-width // 8))
    assert codec.decode(latent).image.shape == (1, 3, height, width)


@pytest.mark.parametrize(("width", "height", "shape"), [(512, 512, (4, 64, 64)), (512, 768, (4, 96, 64))])
def test_sizes_of_latents(width: int, height: int, shape: tuple[int, int, int]) -> None:
    assert tuple(build_averaging().encode(draw(height, width), reading="mode").raw.shape[1:]) == shape


def test_what_a_latent_carries() -> None:
    codec = build_averaging(encoder_fingerprint="e" * 64, decoder_fingerprint="d" * 64)
    latent = codec.encode(Picture(draw(20, 30), torch.ones(1, 1, 20, 30)), reading="sample", seed=5)
    assert (latent.space, latent.width, latent.height, latent.padding) == ("sd", 30, 20, (0, 0, 2, 4))
    assert (latent.reading, latent.seed) == ("sample", 5)
    assert (latent.encoder, latent.decoder) == ("e" * 64, "d" * 64)
    assert latent.alpha is not None and latent.alpha.dtype == torch.uint8
    assert set(latent.versions) >= {"eightfold", "torch"}
    mode = codec.encode(draw(20, 30), seed=5)
    assert (mode.reading, mode.seed) == ("mode", None)


def test_a_sample_depends_on_the_seed_alone() -> None:
    codec, image = build_averaging(), draw(16, 160)
    mode = codec.encode(image, reading="mode").raw
    first, again, other = (codec.encode(image, reading="sample", seed=seed).raw for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    noise = first - mode
    assert abs(noise.mean().item()) < 4 / noise.numel() ** 0.5 and abs(noise.std().item() - 1) < 0.25
    generated = torch.randn(noise.shape, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(noise, generated, atol=1e-3)  # a stream of its own: the sampler's noise of this seed is another


def test_normalisation_and_back() -> None:
    codec = build_averaging(normalisation=Normalisation(scale=(0.5, 2.0, 1.0, 4.0), shift=(1.0, 0.0, -1.0, 0.0)))
    raw = torch.randn(2, 4, 3, 5)
    latent = codec.normalise(raw)
    assert torch.allclose(latent[:, 0], (raw[:, 0] - 1) * 0.5) and torch.allclose(latent[:, 3], raw[:, 3] * 4)
    assert torch.allclose(codec.denormalise(latent), raw, atol=1e-6)
    assert torch.allclose(build_averaging().normalise(raw), raw * 0.18215)


def test_a_latent_of_another_space_is_refused_by_both_names(tmp_path: Path) -> None:
    latent = build_averaging().encode(draw(16, 16), reading="mode")
    latent.save(tmp_path / "a.latent.safetensors")
    pocket = build_averaging(space=POCKET, source="pocket.safetensors")
    with pytest.raises(SpaceMismatch) as caught:
        pocket.decode(tmp_path / "a.latent.safetensors")
    assert all(part in str(caught.value) for part in ("a.latent.safetensors", "space sd", "pocket.safetensors", "space pocket"))
    assert "--force" in caught.value.hint
    forced = pocket.decode(tmp_path / "a.latent.safetensors", force=True)
    assert "by force" in forced.warnings[0] and json.loads(forced.metadata["eightfold"])["forced"] is True
    assert forced.image.shape == (1, 3, 16, 16)
    plain = build_averaging().decode(latent, force=True)
    assert plain.warnings == plain.notes == () and json.loads(plain.metadata["eightfold"])["forced"] is False


def test_no_force_helps_where_the_geometry_differs() -> None:
    latent = build_averaging().encode(draw(16, 16), reading="mode")
    with pytest.raises(SpaceMismatch, match=r"sd \(4 channels\).* toy \(192\); --force cannot make its channels fit") as caught:
        build_toy().decode(latent, force=True)
    assert "--force" not in caught.value.hint
    coarse = replace(latent, space="coarse", width=32, height=32)
    with pytest.raises(SpaceMismatch, match="decoded to 16x16, the picture is 32x32"):
        build_averaging().decode(coarse, force=True)


def test_the_same_space_by_other_weights_is_allowed_and_noted() -> None:
    latent = build_averaging(encoder_fingerprint="a" * 64).encode(draw(16, 16))
    assert build_averaging(encoder_fingerprint="b" * 64).decode(latent).warnings == ("encoded by other weights (aaaaaaaaaaaa)",)
    assert build_averaging(encoder_fingerprint="a" * 64).decode(latent).warnings == ()


def test_values_that_are_not_finite_are_never_a_picture() -> None:
    with pytest.raises(LatentError, match=r"toy.safetensors made of the image in float32 has 1 values of \d+ that are not finite"):
        build_toy(network=Broken("encoder")).encode(draw(8, 8))
    latent = build_toy().encode(draw(8, 8))
    with pytest.raises(LatentError, match="decoded to 24 values that are not finite, in float32") as caught:
        build_toy(network=Broken("decoder")).decode(latent)
    assert "float32" in caught.value.hint
    with pytest.raises(LatentError, match="not finite"):
        build_toy().decode(replace(latent, raw=latent.raw * float("nan")))
    assert build_toy().decode(replace(latent, raw=latent.raw * 100)).image.abs().max() == 1


def test_each_of_many_is_the_same_in_any_company(pocket: dict[str, Tensor]) -> None:
    codec = build_codec(pocket, {}, space=POCKET, source="pocket")
    raw = torch.randn(3, 4, 5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(codec.decode_raw(raw)[1:2], codec.decode_raw(raw[1:2]))


def test_the_three_lines_of_the_documentation(pocket: dict[str, Tensor], tmp_path: Path) -> None:
    write_safetensors(tmp_path / "vae.safetensors", pocket, {}, overwrite=False)
    write_picture(tmp_path / "photo.png", draw(13, 21), alpha=torch.zeros(1, 1, 13, 21), overwrite=False)
    vae = load_codec(tmp_path / "vae.safetensors")
    latent = vae.encode(str(tmp_path / "photo.png"))
    latent.save(tmp_path / "photo.latent.safetensors")
    vae.decode(latent).save(tmp_path / "again.png")
    again, direct = read_picture(tmp_path / "again.png"), vae.decode(str(tmp_path / "photo.latent.safetensors"))
    assert torch.equal(again.image, from_bytes(to_bytes(direct.image)))
    assert again.alpha is not None and not again.alpha.any()
    record = json.loads(read_metadata(tmp_path / "again.png")["eightfold"])
    assert record["space"] == "pocket" and record["decoder"] == vae.decoder_fingerprint == latent.decoder


def test_encoding_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ImageError):
        build_toy().encode(tmp_path / "text.png")


def test_an_autoencoder_in_a_file_knows_its_space(pocket: dict[str, Tensor], tmp_path: Path) -> None:
    write_safetensors(tmp_path / "alone", pocket, {"eightfold.scale": "[2.0]", "eightfold.shift": "[0.1, 0.2, 0.3, 0.4]"}, overwrite=False)
    inside = {**{f"autoencoder.{name}": tensor for name, tensor in pocket.items()}, "denoiser.conv_in.weight": torch.zeros(1)}
    write_safetensors(tmp_path / "inside", inside, {"eightfold.space": "pocket"}, overwrite=False)
    alone, found = load_codec(tmp_path / "alone"), load_codec(tmp_path / "inside")
    assert alone.space is POCKET and found.space is POCKET
    assert alone.normalisation == Normalisation(scale=(2.0,), shift=(0.1, 0.2, 0.3, 0.4))
    assert found.normalisation == POCKET.normalisation
    assert (alone.encoder_fingerprint, alone.decoder_fingerprint) == (found.encoder_fingerprint, found.decoder_fingerprint)
    changed = {**pocket, "decoder.conv_out.bias": pocket["decoder.conv_out.bias"] + 1}
    other = build_codec(changed, {}, space=POCKET, source="other")
    assert other.encoder_fingerprint == alone.encoder_fingerprint and other.decoder_fingerprint != alone.decoder_fingerprint


@pytest.mark.parametrize(
    "metadata",
    [
        {"eightfold.scale": "2"},
        {"eightfold.scale": "x"},
        {"eightfold.scale": "[]"},
        {"eightfold.scale": "[1, 2]"},
        {"eightfold.scale": "[0]"},
        {"eightfold.scale": "[NaN]"},
        {"eightfold.scale": "[1]", "eightfold.shift": '["x"]'},
    ],
)
def test_a_normalisation_that_cannot_be(pocket: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match="normalisation") as caught:
        build_codec(pocket, metadata, space=POCKET, source="vae")
    assert caught.value.hint


def test_weights_that_fit_nothing(pocket: dict[str, Tensor], tmp_path: Path) -> None:
    write_safetensors(tmp_path / "odd", {"weight": torch.zeros(3)}, {}, overwrite=False)
    with pytest.raises(UnknownCheckpoint):
        load_codec(tmp_path / "odd")
    part = {name: tensor for name, tensor in pocket.items() if name != "decoder.conv_out.bias"}
    write_safetensors(tmp_path / "part", part, {}, overwrite=False)
    with pytest.raises(WeightMismatch, match=r"decoder\.conv_out\.bias"):
        load_codec(tmp_path / "part")
    (tmp_path / "text").write_text("text " * 20)
    for name in ("text", "missing"):
        with pytest.raises(CheckpointError):
            load_codec(tmp_path / name)
