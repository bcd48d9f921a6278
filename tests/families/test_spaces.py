"""The latent spaces: public constants, the public networks to the last number, and marks that confuse only what cannot be told apart."""

from __future__ import annotations

import pytest
import torch

from eightfold.autoencoders.build import build_autoencoder
from eightfold.checkpoints.candidates import CANDIDATES, find_candidates
from eightfold.core.device import DTYPES
from eightfold.families.spaces import FLUX2, HUNYUAN, HUNYUAN_REFINER, PIXELS, POCKET, QWEN, SPACES
from eightfold.specs.network import Flux2Config, KLConfig, TinyConfig
from eightfold.specs.space import Normalisation, Packing, Statistics
from layouts import count_numbers, list_layouts, read_layout

BY_NAME = {space.name: space for space in SPACES}
# Space -> channels and downscale of the raw latent, then of what the denoiser sees, the reading a generation starts with
GEOMETRY = {
    "pocket": (4, 8, 4, 8, "mode"),
    "sd": (4, 8, 4, 8, "sample"),
    "sdxl": (4, 8, 4, 8, "sample"),
    "sd3": (16, 8, 16, 8, "sample"),
    "flux1": (16, 8, 16, 8, "mode"),
    "qwen": (16, 8, 16, 8, "mode"),
    "flux2": (32, 8, 128, 16, "mode"),
    "hunyuan": (64, 32, 64, 32, "mode"),
    "hunyuan-refiner": (32, 16, 64, 16, "sample"),
    "pixels": (3, 1, 3, 1, "mode"),
}
# scale, shift: latent = (raw - shift) * scale
CONSTANTS = {
    "sd": (0.18215, 0.0),
    "sdxl": (0.13025, 0.0),
    "sd3": (1.5305, 0.0609),
    "flux1": (0.3611, 0.1159),
    "hunyuan": (0.75289, 0.0),
    "hunyuan-refiner": (1.03682, 0.0),
    "pixels": (1.0, 0.0),
}
# Numbers in the public weights; those of networks over time are counted where they are folded
NUMBERS = {
    "sd": 83_653_863,
    "sdxl": 83_653_863,
    "sd3": 83_819_683,
    "flux1": 83_819_683,
    "flux2": 84_046_115,
    "hunyuan": 405_575_491,
    "pixels": 0,
}
FOUR, SIXTEEN = {"sd", "sdxl"}, {"sd3", "flux1"}
OWNERS = {
    **dict.fromkeys(("sd1", "sd2", "sd", "sdxl", "sdxl-refiner", "pixart-alpha", "pixart-sigma"), FOUR),
    **dict.fromkeys(("sd3", "flux1", "chroma", "lumina2"), SIXTEEN),
    "qwen-image": {"qwen"},
    "flux2": {"flux2"},
    "hunyuan-image-2.1": {"hunyuan"},
    "hunyuan-image-2.1-refiner": {"hunyuan-refiner"},
}
VAES = [name for name in list_layouts() if "_vae" in name]


def build_on_meta(config):
    with torch.device("meta"):
        return build_autoencoder(config)


def count(tensors):
    return sum(tensor.numel() for tensor in tensors)


def to_shapes(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def test_there_are_ten():
    assert list(BY_NAME) == list(GEOMETRY) and len(SPACES) == len(BY_NAME) == 10


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_and_reading(name):
    space = BY_NAME[name]
    assert (space.channels, space.downscale, space.latent_channels, space.latent_downscale, space.start_reading) == GEOMETRY[name]
    assert set(space.dtypes) <= set(DTYPES) and space.dtypes[0] == "float32"


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants(name):
    scale, shift = CONSTANTS[name]
    assert BY_NAME[name].normalisation == Normalisation(scale=(scale,), shift=(shift,))


def test_constants_of_qwen():
    numbers = QWEN.normalisation
    assert len(numbers.scale) == len(numbers.shift) == 16
    assert (numbers.shift[0], numbers.shift[7], numbers.shift[15]) == (-0.7571, 1.5508, -0.2921)
    assert [round(1 / one, 9) for one in (numbers.scale[0], numbers.scale[8], numbers.scale[15])] == [2.8184, 3.2687, 1.916]
    assert sum(numbers.shift) == pytest.approx(-0.7332) and sum(1 / one for one in numbers.scale) == pytest.approx(34.2747)


def test_constants_of_flux2():
    assert FLUX2.normalisation == Statistics(mean="bn.running_mean", variance="bn.running_var", eps=1e-4)
    assert FLUX2.packing == Packing(side=2) and HUNYUAN_REFINER.packing == Packing(copies=2)


def test_float16_is_not_for_all():
    assert {space.name for space in SPACES if "float16" not in space.dtypes} == {"sdxl", "flux1", "qwen", "flux2"}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_the_public_networks(name):
    assert count(build_on_meta(BY_NAME[name].autoencoder).parameters()) == NUMBERS[name]


@pytest.mark.parametrize(("name", "encoder", "decoder"), [("sd", 34_163_592, 49_490_179), ("flux1", 34_274_208, 49_545_475)])
def test_numbers_of_the_halves(name, encoder, decoder):
    network = build_on_meta(BY_NAME[name].autoencoder)
    assert (count(network.encoder.parameters()), count(network.decoder.parameters())) == (encoder, decoder)


def test_the_statistics_of_flux2_are_among_its_weights():
    network = build_on_meta(FLUX2.autoencoder)
    assert (count(network.encoder.parameters()), count(network.decoder.parameters())) == (34_421_696, 49_619_203)
    assert count(network.state_dict().values()) == 84_046_115 + 257 == count_numbers(read_layout("flux2_vae"))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        *((name, f"{name}_vae") for name in ("sdxl", "sd3", "flux1", "flux2")),
        *(("sd", "sd1_vae"), ("sd", "sd2_vae"), ("hunyuan", "hunyuan-image-2.1_vae")),
    ],
)
def test_names_and_shapes_of_the_public_networks(name, layout):
    assert to_shapes(build_on_meta(BY_NAME[name].autoencoder)) == read_layout(layout)


@pytest.mark.parametrize("layout", VAES)
def test_who_claims_a_public_autoencoder(layout):
    """In both layouts; ties are those that share every name and shape, and no others."""
    assert {one.name for one in find_candidates(read_layout(layout))} == OWNERS[layout.split("_vae")[0]]


def test_pocket_is_recognised():
    assert [one.space for one in find_candidates(to_shapes(build_on_meta(POCKET.autoencoder)))] == [POCKET]


@pytest.mark.parametrize("layout", [name for name in list_layouts() if "_denoiser" in name])
def test_no_denoiser_is_an_autoencoder(layout):
    assert find_candidates(read_layout(layout)) == []


@pytest.mark.parametrize(
    ("config", "names"),
    [(TinyConfig(channels=4), FOUR), (TinyConfig(channels=16), SIXTEEN), (Flux2Config(decoder_width=96), {"flux2"})],
    ids=["tiny 4", "tiny 16", "small decoder"],
)
def test_who_claims_a_variant(config, names):
    found = find_candidates(to_shapes(build_on_meta(config)))
    assert {one.name for one in found} == names and {one.autoencoder for one in found} == {config}
    assert {one.speaks for one in found} == {"latent" if isinstance(config, TinyConfig) else "raw"}


@pytest.mark.parametrize("one", CANDIDATES, ids=lambda one: f"{one.name} {type(one.autoencoder).__name__}")
def test_every_mark_is_needed(one):
    marks = {mark.key: tuple(size or 1 for size in mark.shape) for mark in one.marks if not mark.absent}
    assert one in find_candidates(marks)
    for key in marks:
        assert one not in find_candidates({name: shape for name, shape in marks.items() if name != key})


def test_a_space_without_weights_claims_nothing():
    assert PIXELS.marks == () and PIXELS not in [one.space for one in CANDIDATES]
    assert find_candidates({}) == [] and find_candidates({"weight": (3, 3)}) == []


@pytest.mark.parametrize("one", CANDIDATES, ids=lambda one: f"{one.name} {type(one.autoencoder).__name__}")
def test_an_autoencoder_fits_its_space(one):
    numbers = one.space.normalisation
    lengths = {len(numbers.scale), len(numbers.shift)} if isinstance(numbers, Normalisation) else set()
    assert lengths <= {1, one.space.latent_channels}
    assert (one.autoencoder.channels, one.autoencoder.downscale) == (one.space.channels, one.space.downscale)


def test_equal_tensors_are_equal_on_purpose():
    """sd and sdxl differ in what they mean, not in what they are; so do sd3 and flux1."""
    for names in (FOUR, SIXTEEN):
        one, other = (BY_NAME[name] for name in sorted(names))
        assert one.autoencoder == other.autoencoder and one.marks == other.marks and one.normalisation != other.normalisation
    assert isinstance(BY_NAME["sd"].autoencoder, KLConfig) and HUNYUAN.marks != HUNYUAN_REFINER.marks
