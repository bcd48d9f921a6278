"""Text towers in every layout that is published, and diffusers' own reader as a witness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

from eightfold.checkpoints.convert import to_diffusers, to_original
from eightfold.checkpoints.entries import Entry, Inventory
from eightfold.checkpoints.inventory import read_inventory
from eightfold.checkpoints.load import read_tensors
from eightfold.checkpoints.rename import to_names
from eightfold.checkpoints.save import write_safetensors
from eightfold.checkpoints.texttowers import choose_towers, find_towers, load_tower, read_towers
from eightfold.core.errors import CheckpointError, WeightMismatch
from eightfold.families.clip import SD1_TEXT, SD2_TEXT, SDXL_TEXT
from eightfold.families.keymaps.clip import CLIP, OPENCLIP
from eightfold.specs.text import ClipText
from eightfold.text.clip import ClipTower
from toytowers import BIG, BOTH, FIRST, PLAIN, POOLED, REFINER, SECOND, SMALL, build_tower, to_openclip, to_toy_file

TOWERS = {config: build_tower(config, seed) for seed, config in enumerate((SMALL, PLAIN, POOLED))}
FILES = {config: to_toy_file(tower) for config, tower in TOWERS.items()}
IDS = torch.arange(77)[None]


def prefix(text, tensors):
    return {text + name: tensor for name, tensor in tensors.items()}


def cut(text, tensors):
    return {name.removeprefix(text): tensor for name, tensor in tensors.items()}


L, H, G = FILES[SMALL], FILES[PLAIN], FILES[POOLED]
OPEN_H, OPEN_G = to_openclip(H, PLAIN.layers), to_openclip(G, POOLED.layers)
SD = "cond_stage_model."
SGM = "conditioner.embedders."
LAYOUTS = {
    "stable diffusion 1": (FIRST, prefix(f"{SD}transformer.", L)),
    "stable diffusion 1 with leftovers": (
        FIRST,
        prefix(f"{SD}transformer.", L)
        | {f"{SD}transformer.text_model.embeddings.position_ids": IDS, f"{SD}logit_scale": torch.tensor(4.6), "model_ema.decay": IDS},
    ),
    "stable diffusion 1 with places that are no whole numbers": (
        FIRST,
        prefix(f"{SD}transformer.", L) | {f"{SD}transformer.text_model.embeddings.position_ids": IDS.float()},
    ),
    "stable diffusion 1 without text_model": (FIRST, prefix(f"{SD}transformer.", cut("text_model.", L))),
    "a folder": (FIRST, L),
    "a folder of an older program": (FIRST, L | {"text_model.embeddings.position_ids": IDS}),
    "a folder of a newer program": (FIRST, cut("text_model.", L)),
    "clip_l": (FIRST, L | {"logit_scale": torch.tensor(4.6), "text_projection.weight": torch.eye(16)}),
    "all of clip": (
        FIRST,
        L | {"vision_model.x.weight": IDS, "visual_projection.weight": IDS.float(), "text_projection.weight": torch.eye(16)},
    ),
    "stable diffusion 2": (SECOND, prefix(f"{SD}model.", OPEN_H)),
    "stable diffusion 2 with leftovers": (
        SECOND,
        prefix(
            f"{SD}model.", OPEN_H | {"logit_scale": torch.tensor(4.6), "text_projection": torch.eye(24), "attn_mask": torch.zeros(77, 77)}
        ),
    ),
    "stable diffusion 2 of generative-models": (SECOND, prefix(f"{SGM}0.model.", OPEN_H)),
    "bare openclip": (SECOND, OPEN_H | {"logit_scale": torch.tensor(4.6), "visual.conv1.weight": IDS.float()}),
    "xl": (BOTH, prefix(f"{SGM}0.transformer.", L) | prefix(f"{SGM}1.model.", OPEN_G | {"logit_scale": torch.tensor(4.6)})),
    "xl of comfy": (BOTH, prefix("text_encoders.clip_l.transformer.", L) | prefix("text_encoders.clip_g.transformer.", G)),
    "xl of comfy with leftovers": (
        BOTH,
        prefix(
            "text_encoders.clip_l.",
            prefix("transformer.", L) | {"logit_scale": torch.tensor(4.6), "transformer.text_projection.weight": torch.eye(16)},
        )
        | prefix("text_encoders.clip_g.", prefix("transformer.", G) | {"logit_scale": torch.tensor(4.6)}),
    ),
    "refiner": (REFINER, prefix(f"{SGM}0.model.", OPEN_G)),
    "clip_g": (REFINER, G),
}
each_layout = pytest.mark.parametrize("name", LAYOUTS)


def write(folder, tensors, name="x.safetensors"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    write_safetensors(path, {key: tensor.contiguous() for key, tensor in tensors.items()}, {}, overwrite=True)
    return read_inventory(path)


def check(towers, text):
    assert len(towers) == len(text.readings)
    for tower, reading in zip(towers, text.readings, strict=True):
        wanted = TOWERS[reading.tower].state_dict()
        assert tower.config == reading.tower
        assert tower.state_dict().keys() == wanted.keys()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in tower.state_dict().items())
        assert not tower.training and not any(one.requires_grad for one in tower.parameters())


@each_layout
def test_every_layout_is_read(tmp_path, name):
    text, tensors = LAYOUTS[name]
    check(read_towers([write(tmp_path, tensors)], text), text)


def test_a_folder_of_diffusers(tmp_path):
    write(tmp_path, L | {"text_model.embeddings.position_ids": IDS}, "text_encoder/model.safetensors")
    write(tmp_path, G, "text_encoder_2/model.safetensors")
    check(read_towers([read_inventory(tmp_path)], BOTH), BOTH)


def test_files_of_one_tower_each(tmp_path):
    files = [write(tmp_path, G, "clip_g.safetensors"), write(tmp_path, L, "clip_l.safetensors")]
    check(read_towers(files, BOTH), BOTH)


def test_a_file_of_torch(tmp_path):
    torch.save({"state_dict": prefix(f"{SD}model.", OPEN_H)}, tmp_path / "x.ckpt")
    check(read_towers([read_inventory(tmp_path / "x.ckpt")], SECOND), SECOND)


@pytest.mark.parametrize(("config", "theirs"), [(PLAIN, OPEN_H), (POOLED, OPEN_G)], ids=["h", "g"])
def test_openclip_as_diffusers_reads_it(config, theirs):
    start = "conditioner.embedders.1.model."
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=config.width))
    checkpoint = prefix(start, {name: tensor for name, tensor in theirs.items() if name != "text_projection"})
    witness = convert_open_clip_checkpoint(model, checkpoint, prefix=start)
    ours = to_diffusers(theirs, OPENCLIP)
    projection = ours.pop("text_projection.weight", None)
    assert ours.keys() == witness.keys()
    assert all(torch.equal(tensor, witness[name]) for name, tensor in ours.items())
    if projection is not None:
        witness = convert_open_clip_checkpoint(model, {f"{start}text_projection": theirs["text_projection"]}, prefix=start)
        assert torch.equal(projection, witness["text_projection.weight"])


@pytest.mark.parametrize(
    ("keymap", "ours", "original"), [(CLIP, L, prefix("transformer.", L)), (OPENCLIP, H, OPEN_H), (OPENCLIP, G, OPEN_G)]
)
def test_the_way_back(keymap, ours, original):
    back = to_original(ours, keymap)
    assert back.keys() == original.keys()
    assert all(torch.equal(tensor, original[name]) for name, tensor in back.items())
    assert to_original(original, keymap).keys() == original.keys()
    for spelling in keymap.spellings:
        spelt = to_original(original, spelling)
        assert spelt.keys() != original.keys()
        assert to_diffusers(spelt, keymap).keys() == ours.keys()


def test_nothing_is_copied(tmp_path):
    """Fused maps are cut and the projection is turned over as views of the mapped file."""
    inventory = write(tmp_path, prefix(f"{SGM}0.model.", OPEN_G))
    tensors = to_diffusers(read_tensors(find_towers(inventory)[0].part), OPENCLIP)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 1
    tower = read_towers([inventory], REFINER)[0]
    query, key = (getattr(tower.text_model.encoder.layers[0].self_attn, f"{one}_proj").weight for one in "qk")
    assert query.untyped_storage().data_ptr() == key.untyped_storage().data_ptr()


def test_other_numbers_and_another_device(tmp_path):
    inventory = write(tmp_path, {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in L.items()})
    tower = read_towers([inventory], FIRST, dtype=torch.bfloat16)[0]
    assert {weight.dtype for weight in tower.parameters()} == {torch.bfloat16}


def test_the_last_layers_may_be_missing(tmp_path):
    """diffusers' Stable Diffusion 2 has 23 of 24 layers; the 23rd is what is read."""
    short = {name: tensor for name, tensor in H.items() if "layers.3." not in name}
    (tower,) = read_towers([write(tmp_path, short)], SECOND)
    assert tower.config == replace(PLAIN, layers=3)
    numbers = torch.tensor([[49406, 320, 49407]])
    results = [one(one.embed(numbers), None, depth=3).tokens for one in (tower, TOWERS[PLAIN])]
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("text", "tensors", "missing"),
    [(SECOND, H, (2, 3)), (REFINER, G, (3,)), (FIRST, L, (2,))],
    ids=["too few are left", "the pooled vector takes all", "the last is read"],
)
def test_too_few_layers(tmp_path, text, tensors, missing):
    short = {name: tensor for name, tensor in tensors.items() if not any(f"layers.{layer}." in name for layer in missing)}
    with pytest.raises(WeightMismatch, match=r"the text tower .* has \d layers, expected"):
        read_towers([write(tmp_path, short)], text)


def test_what_is_missing_is_named(tmp_path):
    inventory = write(tmp_path, prefix(f"{SD}transformer.", L))
    with pytest.raises(CheckpointError, match=r"lacks the text tower pooled \(32 wide\); it has 16 wide, 3 layers") as caught:
        read_towers([inventory], BOTH)
    assert "conditioner.embedders" in caught.value.hint
    nothing = write(tmp_path, {"model.diffusion_model.out.2.bias": torch.zeros(4)}, "y.safetensors")
    with pytest.raises(CheckpointError, match="it has no text tower"):
        read_towers([nothing], FIRST)


def test_a_tensor_that_does_not_fit(tmp_path):
    broken = L | {"text_model.final_layer_norm.bias": torch.zeros(15)}
    with pytest.raises(WeightMismatch, match="final_layer_norm"):
        read_towers([write(tmp_path, broken)], FIRST)
    with pytest.raises(WeightMismatch, match="in_proj_weight"):
        read_towers([write(tmp_path, OPEN_H | {"transformer.resblocks.0.attn.in_proj_weight": torch.zeros(71, 24)})], SECOND)
    with pytest.raises(WeightMismatch, match="text_projection"):
        read_towers([write(tmp_path, OPEN_G | {"text_projection": torch.zeros(20)})], REFINER)


def test_each_reading_has_a_tower_of_its_own(tmp_path):
    twice = ClipText(readings=(BIG, BIG))
    found = find_towers(write(tmp_path, prefix(f"{SGM}0.model.", OPEN_G) | prefix(f"{SGM}1.model.", OPEN_G)))
    one, other = choose_towers(found, twice, "x")
    assert one is not other
    with pytest.raises(CheckpointError, match="lacks the text tower"):
        choose_towers(found[:1], twice, "x")


@pytest.mark.parametrize("text", [SD1_TEXT, SD2_TEXT, SDXL_TEXT], ids=["sd1", "sd2", "sdxl"])
def test_the_public_towers_by_their_shapes(text):
    """At full width, without a number: what a file in either layout would have."""
    for reading in text.readings:
        with torch.device("meta"):
            tower = ClipTower(reading.tower)
        ours = {name: tuple(tensor.shape) for name, tensor in tower.state_dict().items()}
        for keymap, start in ((CLIP, "cond_stage_model."), (OPENCLIP, "conditioner.embedders.0.model.")):
            shapes = prefix(start, to_original(dict(tower.state_dict()), keymap))
            (found,) = find_towers(as_inventory(shapes))
            assert (found.width, found.layers) == (reading.tower.width, reading.tower.layers)
            assert to_names(found.part.shapes, found.keymap) == ours


def as_inventory(tensors):

    entries = {name: Entry("F16", tuple(tensor.shape), Path("x"), 0, 0) for name, tensor in tensors.items()}
    return Inventory(source="x", format="safetensors", files=(Path("x"),), tensors=entries, metadata={})


def test_a_tower_is_loaded_alone(tmp_path):
    (found,) = find_towers(write(tmp_path, G))
    check([load_tower(found, BIG)], REFINER)
