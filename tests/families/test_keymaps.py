"""Every public layout goes to the other one and back, and every entry of the published key maps agrees with our rows."""

from __future__ import annotations

import ast
from itertools import product
from math import prod
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from eightfold.checkpoints.convert import to_diffusers, to_original
from eightfold.checkpoints.patterns import fill_pattern, fits_texts, read_indices, split_name
from eightfold.checkpoints.rename import Material, rename, rename_back, to_names, to_original_names
from eightfold.checkpoints.rules import compile_rules, flatten
from eightfold.core.errors import WeightMismatch
from eightfold.families.keymaps import catalog
from eightfold.families.keymaps.catalog import AUTOENCODER_KEYMAPS, CONTROL_KEYMAPS, DENOISER_KEYMAPS
from eightfold.families.keymaps.flux1 import CHROMA, FLUX1, RADIANCE
from eightfold.families.keymaps.flux2 import FLUX2
from eightfold.families.keymaps.hunyuan import HUNYUAN, HUNYUAN_FUSED, HUNYUAN_REFINER
from eightfold.families.keymaps.hunyuan_vae import HUNYUAN_REFINER_VAE, HUNYUAN_VAE
from eightfold.families.keymaps.kl import FLUX2_KL, KL
from eightfold.families.keymaps.lumina2 import LUMINA2
from eightfold.families.keymaps.pixart import PIXART
from eightfold.families.keymaps.qwen_vae import QWEN_VAE
from eightfold.families.keymaps.sd3 import SD3_LARGE, SD3_MEDIUM
from eightfold.families.keymaps.tiny import TINY, TINY_DECODER, TINY_ENCODER
from eightfold.families.keymaps.unet import SD_UNET, SDXL_UNET
from layouts import list_layouts, read_keymap, read_layout, read_pack

ALL = {
    "sd1_vae": KL,
    "sd2_vae": KL,
    "sdxl_vae": KL,
    "sd3_vae": KL,
    "flux1_vae": KL,
    "flux2_vae": FLUX2_KL,
    "qwen-image_vae": QWEN_VAE,
    "hunyuan-image-2.1_vae": HUNYUAN_VAE,
    "hunyuan-image-2.1-refiner_vae": HUNYUAN_REFINER_VAE,
    "sd1_denoiser": SD_UNET,
    "sd2_denoiser": SD_UNET,
    "sdxl_denoiser": SDXL_UNET,
    "sdxl-refiner_denoiser": SD_UNET,
    "pixart-alpha_denoiser": PIXART,
    "pixart-sigma_denoiser": PIXART,
    "sd3-medium_denoiser": SD3_MEDIUM,
    "sd3.5-medium_denoiser": SD3_MEDIUM,
    "sd3.5-large_denoiser": SD3_LARGE,
    "flux1-dev_denoiser": FLUX1,
    "flux1-schnell_denoiser": FLUX1,
    "flux2-dev_denoiser": FLUX2,
    "flux2-klein-4b_denoiser": FLUX2,
    "flux2-klein-9b_denoiser": FLUX2,
    "lumina2_denoiser": LUMINA2,
    "hunyuan-image-2.1_denoiser": HUNYUAN,
    "hunyuan-image-2.1-distilled_denoiser": HUNYUAN,
    "hunyuan-image-2.1-refiner_denoiser": HUNYUAN_REFINER,
    "chroma_denoiser": CHROMA,
}
# What the way back cannot know
UNKNOWN = {PIXART: ("pos_embed", "y_embedder.y_embedding"), HUNYUAN_REFINER: ("time_r_in.",)}
KEYMAPS = [*AUTOENCODER_KEYMAPS, *DENOISER_KEYMAPS, *CONTROL_KEYMAPS]
SPELLINGS = [spelling for keymap in KEYMAPS for spelling in keymap.spellings]
DATA_FILES = [path for path in Path(catalog.__file__).parent.glob("*.py") if path.stem != "__init__"]
BEHAVIOUR = (ast.Lambda, ast.IfExp, ast.comprehension, ast.NamedExpr, ast.BoolOp, ast.Compare, ast.JoinedStr)

each_layout = pytest.mark.parametrize("name", ALL)
each_keymap = pytest.mark.parametrize("keymap", [*KEYMAPS, *SPELLINGS], ids=lambda keymap: keymap.name)


class Piece(NamedTuple):
    """A tensor that is not there: its shape and the rows of the file that it is made of."""

    shape: tuple[int, ...]
    rows: tuple[tuple[str, int, int], ...]


def cut_piece(piece, first, last):
    reached, rows = 0, []
    for name, start, end in piece.rows:
        inside = max(first, reached), min(last, reached + end - start)
        if inside[0] < inside[1]:
            rows.append((name, start + inside[0] - reached, start + inside[1] - reached))
        reached += end - start
    return Piece((last - first, *piece.shape[1:]), tuple(rows))


def join_pieces(pieces):
    return Piece((sum(piece.shape[0] for piece in pieces), *pieces[0].shape[1:]), sum((piece.rows for piece in pieces), ()))


PIECES = Material[Piece](
    shape=lambda piece: piece.shape,
    cut=cut_piece,
    join=join_pieces,
    reshape=lambda piece, shape: Piece(shape, piece.rows),
    turn=lambda piece: Piece(piece.shape[::-1], piece.rows),
    fill=lambda like, value: Piece(like.shape, (("filled", 0, 0),)),
)


def read_original(name):
    return read_layout(f"{name}.original" if f"{name}.original" in list_layouts() else "sd_vae.original")


def take_unknown(things, keymap):
    return {name: thing for name, thing in things.items() if name.startswith(UNKNOWN.get(keymap, ("nothing",)))}


def shrink(shape):
    """A toy shape that can be cut in the same proportions."""
    return tuple(size // 64 if size % 64 == 0 else min(size, 3) for size in shape[:1]) + tuple(min(size, 2) for size in shape[1:])


def draw_toys(shapes):
    generator = torch.Generator().manual_seed(8)
    return {name: torch.randn(shrink(shape), generator=generator) for name, shape in shapes.items()}


def is_the_same(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def probe_names(pattern):
    """Names that a pattern gives for small indices, with something behind an open one."""
    for values in product(range(4), repeat=len(pattern.names)):
        indices = dict(zip(pattern.names, values, strict=True))
        if all(value < dict(pattern.bounds).get(name, 4) for name, value in indices.items()):
            name = fill_pattern(pattern, indices)
            if "-" not in name:
                yield name + ("weight" if pattern.is_open else "")


def count_claims(name, patterns):
    texts, digits = split_name(name)
    return sum(fits_texts(pattern, texts) and read_indices(pattern, digits, bounds) is not None for pattern, bounds in patterns)


def test_every_published_key_map_is_covered():
    assert {*read_pack()["keymaps"]} <= {*ALL}
    assert {*ALL.values()} | {TINY, TINY_DECODER, TINY_ENCODER, RADIANCE, *CONTROL_KEYMAPS} == {*KEYMAPS}
    names = [keymap.name for keymap in KEYMAPS]
    assert len({*names}) == len(names)


@each_layout
def test_a_public_file_goes_there_and_back(name):
    keymap, ours, original = ALL[name], read_layout(name), read_original(name)
    assert to_names(original, keymap) == ours
    assert to_original_names(ours | take_unknown(original, keymap), keymap) == original


@each_layout
def test_a_file_in_our_layout_stays_as_it_is(name):
    keymap, ours, original = ALL[name], read_layout(name), read_original(name)
    assert to_names(ours, keymap) == ours
    assert to_original_names(original, keymap) == original


@each_layout
def test_every_entry_of_the_published_key_map(name):
    keymap, original = ALL[name], read_original(name)
    whole = {one: Piece(shape, ((one, 0, shape[0] if shape else 1),)) for one, shape in original.items()}
    published = read_keymap(name)
    found = rename(whole, keymap, PIECES)
    for ours, theirs in published["map"].items():
        expected = whole[theirs].rows if isinstance(theirs, str) else tuple(map(tuple, theirs))
        assert found[ours].rows == expected, ours
    assert {*found} - {*published["map"]} == {*published["unused_original"]} & {*found}
    back = rename_back(found | take_unknown(whole, keymap), keymap, PIECES)
    for one, piece in back.items():
        if piece.rows[0][0] != "filled":
            assert piece.shape == whole[one].shape
            assert merge_rows(piece.rows) == whole[one].rows


def merge_rows(rows):
    merged = [rows[0]]
    for name, first, last in rows[1:]:
        if merged[-1][0] == name and merged[-1][2] == first:
            merged[-1] = (name, merged[-1][1], last)
        else:
            merged.append((name, first, last))
    return tuple(merged)


@each_layout
def test_tensors_come_back_bit_for_bit(name):
    keymap, toys = ALL[name], draw_toys(read_original(name))
    ours = to_diffusers(toys, keymap)
    assert ours.keys() == read_layout(name).keys()
    back = to_original(ours | take_unknown(toys, keymap), keymap)
    filled = {one.before for one in keymap.dropped if one.value is not None}
    assert is_the_same(
        {one: tensor for one, tensor in back.items() if one not in filled}, {k: v for k, v in toys.items() if k not in filled}
    )
    assert all(back[one].eq(1).all() for one in filled)


@pytest.mark.parametrize("name", [name for name in ALL if ALL[name] in UNKNOWN])
def test_what_nobody_can_know_is_asked_for(name):
    with pytest.raises(WeightMismatch, match=r"which ours leaves out") as caught:
        to_original_names(read_layout(name), ALL[name])
    assert "from the original file" in caught.value.hint


@each_keymap
def test_no_name_is_claimed_twice(keymap):
    rules = compile_rules(keymap)
    before = [(rule.before, rule.bounds) for rule in rules]
    after = [(pattern, rule.bounds) for rule in rules for pattern in rule.after]
    for side in (before, after):
        for pattern, _ in side:
            names = [*probe_names(pattern)]
            assert names
            assert all(count_claims(name, side) <= 1 for name in names), pattern
    for layout in [name for name, one in ALL.items() if one is keymap]:
        assert all(count_claims(name, before) <= 1 for name in read_original(layout))
        assert all(count_claims(name, after) <= 1 for name in read_layout(layout))


def test_every_row_is_used():
    """By a public file of a keymap that it stands in; the spellings and the tiny autoencoder have none here."""
    used = set()
    for name, keymap in ALL.items():
        texts = {split_name(one)[0] for one in read_original(name)}
        rows = zip(compile_rules(keymap), flatten(keymap.rows, "", ""), strict=True)
        used |= {row for rule, (_, _, row) in rows if any(fits_texts(rule.before, one) for one in texts)}
    assert [row for keymap in {*ALL.values()} for _, _, row in flatten(keymap.rows, "", "") if row not in used] == []


@pytest.mark.parametrize("name", ["flux1-dev_denoiser", "flux2-klein-4b_denoiser", "chroma_denoiser", "chroma-radiance_denoiser"])
def test_the_spelling_of_comfy(name):
    keymap, original = ALL.get(name, RADIANCE), read_original(name)
    comfy = to_original_names(original, keymap.spellings[0])
    assert {*comfy} == {one.removesuffix(".scale") + ".weight" if one.endswith(".scale") else one for one in original}
    assert comfy != original
    assert to_names(comfy, keymap) == read_layout(name)
    assert to_names(comfy, keymap.spellings[0]) == original


@pytest.mark.parametrize("name", [name for name in ALL if ALL[name] in (HUNYUAN, HUNYUAN_REFINER)])
def test_fused_maps_of_hunyuan(name):
    keymap, original = ALL[name], read_original(name)
    fused = to_original_names(original, HUNYUAN_FUSED)
    assert sum(map(prod, fused.values())) == sum(map(prod, original.values()))
    assert fused["double_blocks.0.img_attn_qkv.weight"][0] == 3 * original["double_blocks.0.img_attn_q.weight"][0]
    assert fused["single_blocks.7.linear1.bias"][0] == 7 * original["single_blocks.7.linear1_k.bias"][0]
    assert to_names(fused, keymap) == read_layout(name)
    toys = to_original(draw_toys(original), HUNYUAN_FUSED)
    assert is_the_same(to_diffusers(toys, keymap), to_diffusers(draw_toys(original), keymap))
    assert is_the_same(to_original(to_diffusers(toys, HUNYUAN_FUSED), HUNYUAN_FUSED), toys)


def test_swapped_halves_and_cut_maps_hold_the_right_numbers():
    first = "joint_blocks.0.x_block.attn.qkv.weight"
    tensors = {"final_layer.adaLN_modulation.1.bias": torch.arange(6.0), first: torch.arange(6.0)[:, None]}
    ours = to_diffusers(tensors, SD3_MEDIUM)
    assert ours["norm_out.linear.bias"].tolist() == [3, 4, 5, 0, 1, 2]
    assert ours["transformer_blocks.0.attn.to_k.weight"].tolist() == [[2], [3]]
    single = {"single_blocks.3.linear1.bias": torch.arange(14)}
    assert to_diffusers(single, FLUX1)["single_transformer_blocks.3.proj_mlp.bias"].tolist() == [*range(6, 14)]
    shared = {"layers.1.attention.qkv.weight": torch.arange(10)}
    assert to_diffusers(shared, LUMINA2)["layers.1.attn.to_k.weight"].tolist() == [6, 7]


def test_only_the_last_block_of_sd3_is_swapped():
    tensors = {f"joint_blocks.{b}.context_block.adaLN_modulation.1.bias": torch.arange(4) for b in (0, 22, 23, 37)}
    medium, large = to_diffusers(tensors, SD3_MEDIUM), to_diffusers(tensors, SD3_LARGE)
    name = "transformer_blocks.{}.norm1_context.linear.bias"
    assert [medium[name.format(b)].tolist() for b in (0, 22, 23)] == [[0, 1, 2, 3], [0, 1, 2, 3], [2, 3, 0, 1]]
    assert [large[name.format(b)].tolist() for b in (0, 23, 37)] == [[0, 1, 2, 3], [0, 1, 2, 3], [2, 3, 0, 1]]


def test_cut_tensors_are_views():
    tensors = {"double_blocks.0.img_attn.qkv.weight": torch.zeros(6, 2)}
    ours = to_diffusers(tensors, FLUX1)
    assert len({tensor.untyped_storage().data_ptr() for tensor in ours.values()}) == 1


def test_the_tiny_autoencoder():
    """The decoder's original list: clamp, convolution, ReLU, then three blocks, doubling and convolution thrice, a block, a convolution."""
    decoder = {0: 1, 2: 3, 3: 4, 4: 5, 6: 7, 7: 8, 8: 9, 9: 10, 11: 12, 12: 13, 13: 14, 14: 15, 16: 17, 17: 18, 18: 19}
    names = {f"encoder.layers.{n}.conv.0.weight": f"encoder.{n}.conv.0.weight" for n in range(15)}
    names |= {f"decoder.layers.{ours}.weight": f"decoder.{theirs}.weight" for ours, theirs in decoder.items()}
    ours = dict.fromkeys(names, (2, 2, 3, 3))
    original = to_original_names(ours, TINY)
    assert [*original] == [*names.values()]
    assert to_names(original, TINY) == ours
    comfy = to_original_names(original, TINY.spellings[0])
    assert "taesd_decoder.1.weight" in comfy
    assert to_names(comfy, TINY) == ours
    assert "decoder.0.weight" in to_names({"decoder.0.weight": (1,)}, TINY)  # the clamp has no weights: no row claims its name


@pytest.mark.parametrize("path", DATA_FILES, ids=lambda path: path.stem)
def test_keymap_files_hold_only_data(path):
    body = ast.parse(path.read_text()).body
    assert isinstance(body[0], ast.Expr)
    assert all(isinstance(statement, ast.ImportFrom | ast.Assign) for statement in body[1:])
    assert not [node for statement in body for node in ast.walk(statement) if isinstance(node, BEHAVIOUR)]


def test_every_keymap_file_is_in_the_catalog():
    text = Path(catalog.__file__).read_text()
    assert all(f"from .{path.stem} import" in text for path in DATA_FILES if path.stem != "catalog")
