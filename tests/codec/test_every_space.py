"""All latent spaces do what one does: pictures to latents to files and back, normalised or not, in any numbers, and to no other space."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eightfold.checkpoints.formats import read_safetensors_header
from eightfold.codec.codec import Codec
from eightfold.codec.latentfile import read_latent
from eightfold.codec.load import build_codec
from eightfold.codec.pixels import Picture
from eightfold.core.device import choose_placement
from eightfold.core.errors import SpaceMismatch
from toyspaces import TOYS, build_toy_codec, draw_weights
from weights import draw

WIDTH, HEIGHT = 37, 21
CODECS: dict[str, Codec] = {}
FOLDED = {"qwen", "hunyuan-refiner"}


@pytest.fixture(params=TOYS)
def codec(request: pytest.FixtureRequest) -> Codec:
    if request.param not in CODECS:
        CODECS[request.param] = build_toy_codec(TOYS[request.param])
    return CODECS[request.param]


def draw_picture() -> Picture:
    alpha = torch.randint(0, 256, (1, 1, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0)).float() / 255
    return Picture(draw(1, 3, HEIGHT, WIDTH).clamp(-1, 1), alpha)


def to_cells(size: int, codec: Codec) -> int:
    """Cells of the raw latent: as many as whole cells of what a denoiser sees take."""
    space = codec.space
    return -(-size // space.latent_downscale) * space.packing.side


@torch.no_grad()
def test_to_a_file_and_back(codec: Codec, tmp_path: Path) -> None:
    picture, path = draw_picture(), tmp_path / "a.latent.safetensors"
    latent = codec.encode(picture)
    latent.save(path)
    assert read_safetensors_header(path).tensors["latent"].shape == (
        1,
        codec.space.channels,
        to_cells(HEIGHT, codec),
        to_cells(WIDTH, codec),
    )
    again = read_latent(path)
    assert (again.space, again.reading, again.dtype) == (codec.space.name, "mode", "float32")
    assert torch.equal(again.raw, latent.raw) and latent.raw.std() > 0.05
    decoded = codec.decode(path)
    assert decoded.image.shape == (1, 3, HEIGHT, WIDTH) and decoded.image.std() > 0.05
    assert torch.equal(decoded.image, codec.network.decode(latent.raw).clamp(-1, 1)[:, :, :HEIGHT, :WIDTH])
    assert decoded.alpha is not None and torch.equal(decoded.alpha, picture.alpha) and decoded.notes == ()
    assert json.loads(decoded.metadata["eightfold"])["space"] == codec.space.name


def test_the_latent_is_that_of_the_public_form_of_the_weights(codec: Codec) -> None:
    """Whatever is folded on the way: the network in the plane that the weights were drawn for says the same."""
    plane = build_codec(draw_weights(codec.space, frames=False), {}, space=codec.space, source="plane")
    raw = codec.encode(draw_picture()).raw
    assert torch.allclose(plane.encode(draw_picture()).raw, raw, atol=1e-4)
    assert torch.allclose(plane.decode_raw(raw), codec.decode_raw(raw), atol=1e-4)


def test_what_a_denoiser_sees_and_back(codec: Codec) -> None:
    raw = codec.encode(draw_picture()).raw
    latent = codec.normalise(raw)
    down = codec.space.latent_downscale
    assert latent.shape == (1, codec.space.latent_channels, -(-HEIGHT // down), -(-WIDTH // down))
    assert torch.allclose(codec.denormalise(latent), raw, atol=1e-4)
    if codec.space.name not in ("pocket", "pixels"):
        assert not torch.allclose(latent.std(), raw.std(), rtol=1e-3)


def test_a_start_is_read_as_the_space_s_own_tools_do(codec: Codec) -> None:
    usual, first, other = (
        codec.encode(draw_picture()),
        codec.encode_start(draw_picture(), seed=1),
        codec.encode_start(draw_picture(), seed=2),
    )
    reading = codec.space.start_reading
    assert (usual.reading, usual.seed, first.reading, first.seed) == ("mode", None, reading, 1 if reading == "sample" else None)
    assert torch.equal(first.raw, codec.encode_start(draw_picture(), seed=1).raw)
    assert torch.equal(first.raw, usual.raw) == torch.equal(first.raw, other.raw) == (reading == "mode")


def test_in_float16_where_that_is_safe(codec: Codec) -> None:
    narrow = build_toy_codec(codec.space, choose_placement("cpu", "float16"))
    latent = narrow.encode(draw_picture())
    picture = narrow.decode(latent)
    taken = "float16" if "float16" in codec.space.dtypes else "bfloat16"
    record = json.loads(picture.metadata["eightfold"])
    assert (latent.dtype, record["dtype"]) == (taken, taken) and "float16: asked for" in latent.reason
    told = f"float16 overflows in space {codec.space.name}: run in bfloat16"
    assert latent.notes == picture.notes == (() if taken == "float16" else (told,))
    wide = codec.decode(codec.encode(draw_picture()))
    assert (picture.image - wide.image).abs().mean() < 0.1


def test_another_space_s_latents_are_refused(codec: Codec) -> None:
    latent = codec.encode(draw_picture())
    for name, space in TOYS.items():
        other = Codec(network=codec.network, space=space, normalisation=codec.normalisation, source="other")
        if name != codec.space.name:
            with pytest.raises(SpaceMismatch, match=f"in space {codec.space.name} .*decodes space {name} "):
                other.decode(latent)


def test_fingerprints_are_those_of_the_file(codec: Codec) -> None:
    """For networks that are folded at load they are not those of the kernels it runs with."""
    plane = build_codec(draw_weights(codec.space, frames=False), {}, space=codec.space, source="plane")
    assert (plane.decoder_fingerprint == codec.decoder_fingerprint) == (codec.space.name not in FOLDED)
    latent = codec.encode(draw_picture())
    assert (latent.encoder, latent.decoder) == (codec.encoder_fingerprint, codec.decoder_fingerprint)
