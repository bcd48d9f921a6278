"""What a file is: every public layout, whole and narrow, behind every prefix and in every dtype, and what is not known."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from eightfold.checkpoints.entries import Entry, Inventory
from eightfold.checkpoints.identity import identify_file, identify_inventory
from eightfold.checkpoints.kinds import KINDS
from eightfold.checkpoints.lookup import find_marks
from eightfold.checkpoints.rename import to_original_names
from eightfold.core.errors import CheckpointError
from eightfold.families.catalog import FAMILIES, KNOWN_FAMILIES
from eightfold.families.keymaps.tiny import TINY
from eightfold.families.spaces import SPACES
from layouts import list_layouts, narrow, read_layout

# the public layouts: family, variant and space of each denoiser, spaces of each autoencoder
DENOISERS = {
    "sd1": ("sd1", "base", "sd"),
    "sd2": ("sd2", "base", "sd"),
    "sdxl": ("sdxl", "base", "sdxl"),
    "sdxl-refiner": ("sdxl", "refiner", "sdxl"),
    "pixart-alpha": ("pixart-alpha", "1024", "sd"),
    "sd3-medium": ("sd3", "medium", "sd3"),
    "sd3.5-medium": ("sd3", "3.5-medium", "sd3"),
    "sd3.5-large": ("sd3", "3.5-large", "sd3"),
    "flux1-dev": ("flux1", "dev", "flux1"),
    "flux1-schnell": ("flux1", "schnell", "flux1"),
    "lumina2": ("lumina2", "base", "flux1"),
    "qwen-image": ("qwen-image", "base", "qwen"),
    "flux2-dev": ("flux2", "dev", "flux2"),
    "flux2-klein-4b": ("flux2", "klein-4b", "flux2"),
    "flux2-klein-9b": ("flux2", "klein-9b", "flux2"),
    "hunyuan-image-2.1": ("hunyuan-image", "base", "hunyuan"),
    "hunyuan-image-2.1-distilled": ("hunyuan-image", "distilled", "hunyuan"),
    "hunyuan-image-2.1-refiner": ("hunyuan-image", "refiner", "hunyuan-refiner"),
    "pixelflow-c2i": ("pixelflow", "class", "pixels"),
    "pixelflow-t2i": ("pixelflow", "text", "pixels"),
    "chroma": ("chroma", "base", "flux1"),
    "chroma-radiance": ("radiance", "base", "pixels"),
}
EMPTY_CAPTION = {"pixart-sigma_denoiser.original": ("pixart-sigma", "base", "sdxl")}
SMALL_PIXART = ("pixart-alpha-512_denoiser", "pixart-sigma_denoiser")
AUTOENCODERS = {
    **dict.fromkeys(("sd", "sd1", "sd2", "sdxl", "sdxl-refiner", "pixart-alpha", "pixart-sigma"), ("sd", "sdxl")),
    **dict.fromkeys(("sd3", "flux1", "lumina2", "chroma"), ("sd3", "flux1")),
    "qwen-image": ("qwen",),
    "flux2": ("flux2",),
    "hunyuan-image-2.1": ("hunyuan",),
    "hunyuan-image-2.1-refiner": ("hunyuan-refiner",),
}
ONE_LAYOUT = ("qwen-image_denoiser", "pixelflow-c2i_denoiser", "pixelflow-t2i_denoiser", "chroma-radiance_denoiser")
PREFIXES = {
    "autoencoder": ("", "autoencoder.", "first_stage_model.", "vae.", "vae/"),
    "denoiser": ("", "denoiser.", "model.diffusion_model.", "diffusion_model.", "unet/", "transformer/"),
}


def to_inventory(shapes, *, dtype="F32", metadata=None):
    tensors = {name: Entry(dtype, shape, Path("file"), 0, 0) for name, shape in shapes.items()}
    return Inventory(source="file", format="safetensors", files=(), tensors=tensors, metadata=metadata or {})


def prefixed(prefix, shapes):
    return {prefix + name: shape for name, shape in shapes.items()}


def check(layout, identity):
    name, _, component = layout.removesuffix(".original").rpartition("_")
    assert identity.evidence and identity.nearest is None
    if component == "vae":
        spaces = AUTOENCODERS[name]
        assert (identity.component, identity.family, identity.variant) == ("autoencoder", None, "base")
        assert identity.space == (spaces[0] if len(spaces) == 1 else None)
        assert identity.ties == (spaces if len(spaces) > 1 else ())
    elif layout in SMALL_PIXART:
        assert (identity.component, identity.family, identity.space) == ("denoiser", None, None)
        assert identity.ties == ("pixart-alpha", "pixart-sigma")
    else:
        assert identity.component == "denoiser" and identity.ties == ()
        assert (identity.family, identity.variant, identity.space) == EMPTY_CAPTION.get(layout, DENOISERS.get(name))
    wanted = "only" if layout.removesuffix(".original") in ONE_LAYOUT else "original" if layout.endswith(".original") else "diffusers"
    assert identity.layout == wanted


@pytest.mark.parametrize("layout", list_layouts())
def test_every_public_layout(layout):
    (identity,) = identify_inventory(to_inventory(read_layout(layout)))
    check(layout, identity)
    assert identity.parameters == sum(to_numbers(shape) for shape in read_layout(layout).values())


def to_numbers(shape):
    count = 1
    for size in shape:
        count *= size
    return count


@pytest.mark.parametrize("layout", list_layouts())
def test_every_layout_at_a_small_width(layout):
    small = narrow(layout)
    assert small != read_layout(layout)
    (identity,) = identify_inventory(to_inventory(small, dtype="BF16"))
    check(layout, identity)
    assert identity.dtype == "bfloat16"


@pytest.mark.parametrize("layout", ["sd_vae.original", "flux2_vae", "sdxl_denoiser.original", "flux1-dev_denoiser", "radiance"])
@pytest.mark.parametrize("dtype", ["F16", "F8_E4M3", "Q4_K"])
def test_behind_every_prefix_and_in_every_dtype(layout, dtype):
    layout = "chroma-radiance_denoiser" if layout == "radiance" else layout
    for prefix in PREFIXES["autoencoder" if "_vae" in layout else "denoiser"]:
        (identity,) = identify_inventory(to_inventory(prefixed(prefix, read_layout(layout)), dtype=dtype))
        check(layout, identity)
        assert identity.dtype == {"F16": "float16", "F8_E4M3": "float8_e4m3", "Q4_K": "Q4_K"}[dtype]


def test_the_geometry_is_that_of_the_space():
    for space in SPACES:
        for kind in KINDS:
            if kind.space is space:
                assert kind.marks and kind.variant
    (identity,) = identify_inventory(to_inventory(read_layout("flux2_vae")))
    assert (identity.latent_channels, identity.downscale) == (32, 8)
    (identity,) = identify_inventory(to_inventory(read_layout("sd3_vae")))  # a tie, but of one geometry
    assert (identity.latent_channels, identity.downscale) == (16, 8)


@pytest.mark.parametrize(("channels", "variant"), [(9, "inpaint"), (8, "instruct")])
def test_variants_of_sd1(channels, variant):
    shapes = read_layout("sd1_denoiser.original") | {"input_blocks.0.0.weight": (320, channels, 3, 3)}
    (identity,) = identify_inventory(to_inventory(shapes))
    assert (identity.family, identity.variant) == ("sd1", variant)


@pytest.mark.parametrize(("size", "variant"), [(384, "fill"), (128, "control")])
def test_variants_of_flux1(size, variant):
    shapes = read_layout("flux1-dev_denoiser.original") | {"img_in.weight": (3072, size)}
    (identity,) = identify_inventory(to_inventory(shapes))
    assert (identity.family, identity.variant) == ("flux1", variant)


def test_a_small_decoder_and_the_tiny_autoencoder():
    shapes = read_layout("flux2_vae") | {"decoder.conv_out.weight": (3, 96, 3, 3), "decoder.conv_in.weight": (384, 32, 3, 3)}
    (identity,) = identify_inventory(to_inventory(shapes))
    assert (identity.space, identity.variant) == ("flux2", "small-decoder")
    tiny = {"decoder.layers.0.weight": (64, 4, 3, 3), "encoder.layers.14.weight": (4, 64, 3, 3)}
    for shapes, layout in ((tiny, "diffusers"), (to_original_names(tiny, TINY), "original")):
        (identity,) = identify_inventory(to_inventory(shapes))
        assert (identity.ties, identity.variant, identity.layout) == (("sd", "sdxl"), "tiny", layout)


@pytest.mark.parametrize(
    ("denoiser", "autoencoder", "space"),
    [("sd1_denoiser.original", "sd_vae.original", "sd"), ("sdxl_denoiser.original", "sd_vae.original", "sdxl")],
)
def test_an_all_in_one_file_settles_its_autoencoder(denoiser, autoencoder, space):
    shapes = prefixed("model.diffusion_model.", read_layout(denoiser)) | prefixed("first_stage_model.", read_layout(autoencoder))
    shapes |= {"cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 77), "model_ema.decay": ()}
    found = {one.component: one for one in identify_inventory(to_inventory(shapes))}
    assert {*found} == {"denoiser", "autoencoder", "text", "average"}
    assert (found["autoencoder"].space, found["autoencoder"].ties) == (space, ())
    assert found["autoencoder"].evidence[0] == f"the denoiser beside it draws in space {space}"
    assert found["text"].family is None and found["text"].nearest is None


def test_what_the_metadata_declare_settles_a_tie():
    shapes = read_layout("sdxl_vae")
    (identity,) = identify_inventory(to_inventory(shapes, metadata={"eightfold.space": "sdxl"}))
    assert (identity.space, identity.evidence[0]) == ("sdxl", "metadata eightfold.space: sdxl")
    (identity,) = identify_inventory(to_inventory(shapes, metadata={"config.json": json.dumps({"scaling_factor": 0.13025})}))
    assert (identity.space, identity.evidence[0]) == ("sdxl", "config.json scaling_factor: 0.13025")
    for nonsense in ({"eightfold.space": "qwen"}, {"config.json": "[]"}, {"config.json": '{"scaling_factor": 3}'}):
        (identity,) = identify_inventory(to_inventory(shapes, metadata=nonsense))
        assert identity.ties == ("sd", "sdxl")


def test_unknown_is_unknown_and_says_what_came_nearest():
    shapes = read_layout("sd1_denoiser") | {"conv_in.weight": (320, 7, 3, 3)}
    (identity,) = identify_inventory(to_inventory(shapes))
    assert (identity.component, identity.family, identity.ties) == ("unknown", None, ())
    assert identity.nearest == "denoiser of sd1 (base)"
    assert identity.why_not == ("conv_in.weight is [320, 7, 3, 3], expected [*, 4, 3, 3]",)
    (identity,) = identify_inventory(to_inventory({"a.weight": (1, 2)}))
    assert (identity.component, identity.nearest, identity.why_not) == ("unknown", None, ())
    with pytest.raises(CheckpointError, match="a LoRA"):
        identify_inventory(to_inventory({"lora_unet_mid_block.lora_down.weight": (4, 8)}))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.name}-{kind.variant}")
def test_no_mark_is_idle(kind):
    """Without any one of its tensors, a file is not of this kind."""
    marks = {mark.key: tuple(size or 24 for size in mark.shape) for mark in kind.marks if not mark.absent}

    assert find_marks(marks, kind) is not None
    for key in marks:
        assert find_marks({name: shape for name, shape in marks.items() if name != key}, kind) is None, key


def test_all_fifteen_families_and_ten_spaces_are_known():
    assert len(KNOWN_FAMILIES) == 15 and len(SPACES) == 10
    assert {*FAMILIES} <= {*KNOWN_FAMILIES}
    assert {kind.family for kind in KINDS if kind.component == "denoiser"} == {family.name for family in KNOWN_FAMILIES}
    assert {kind.space.name for kind in KINDS if kind.component == "autoencoder"} == {space.name for space in SPACES} - {"pixels"}


def test_a_large_file_is_identified_from_its_header_without_torch(tmp_path):
    """A sparse file of 24 GB: FLUX.1 dev's whole layout in bfloat16."""
    header, end = {}, 0
    for name, shape in read_layout("flux1-dev_denoiser.original").items():
        size = 2 * to_numbers(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path = tmp_path / "named-like-a-lie-sd15.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    (identity,) = identify_file(path)
    assert (identity.family, identity.variant, identity.dtype) == ("flux1", "dev", "bfloat16")
    code = (
        f"import sys; from eightfold.checkpoints.identity import identify_file; identify_file({str(path)!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
