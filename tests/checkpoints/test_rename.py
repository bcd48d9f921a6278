"""Early names lead to the same network; rows go both ways, and what they cannot do is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.checkpoints.convert import to_diffusers, to_original
from eightfold.checkpoints.patterns import fill_pattern, parse_pattern, read_indices, split_name
from eightfold.checkpoints.rename import EARLY_ATTENTION, rename_early_attention, to_names, to_original_names
from eightfold.checkpoints.rules import compile_rules
from eightfold.checkpoints.save import write_safetensors
from eightfold.codec.load import load_codec
from eightfold.core.errors import WeightMismatch
from eightfold.families.spaces import POCKET
from eightfold.specs.keymap import Dropped, Keymap, Row
from layouts import read_layout

TOY = Keymap(
    name="toy",
    rows=(
        Row("up.{3-l}.", "up_blocks.{l}."),
        Row("in.{3l+r+1}.0.", "down.{l}.blocks.{r<2}.", (Row("skip.", "shortcut."), Row("conv{n}.", "conv{n}."))),
        Row("in.{3l+3}.0.op.", "down.{l}.half."),
        Row("mlp.{2n}.", "linear_{n+1}."),
        Row("table", "embed.table"),
        Row("qkv.", ("q.", "k.", "v.")),
        Row("fused.", ("a.", "b."), shares=(1, 4)),
        Row("square.", "flat.", change="squeeze"),
        Row("final.", "out.", change="swap"),
    ),
)
SCRAPS = (
    "up.",
    "in.",
    "mlp.",
    "0",
    "1",
    "3",
    "12",
    "03",
    ".",
    "0.",
    "skip.",
    "op.",
    "conv",
    "table",
    "weight",
    "final.",
    "embed.",
    "linear_",
)


def rows(*given):
    return Keymap(name="made up", rows=given)


def to_early(tensors):
    found = dict(tensors)
    for early, now in EARLY_ATTENTION:
        found = {name.replace(f".attentions.0.{now}.", f".attentions.0.{early}."): tensor for name, tensor in found.items()}
    return found


def test_a_file_of_early_names_is_the_same_autoencoder(tmp_path):
    torch.manual_seed(0)
    weights = KLAutoencoder(POCKET.autoencoder).state_dict()
    early = to_early(weights)
    assert len(set(weights) - set(early)) == 2 * 2 * len(EARLY_ATTENTION)  # weight and bias, encoder and decoder
    write_safetensors(tmp_path / "now.safetensors", weights, {}, overwrite=False)
    write_safetensors(tmp_path / "early.safetensors", early, {}, overwrite=False)
    now, then = load_codec(tmp_path / "now.safetensors"), load_codec(tmp_path / "early.safetensors")
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(now.encode(image).raw, then.encode(image).raw)
    assert now.encoder_fingerprint == then.encoder_fingerprint


def test_todays_names_stay():
    layout = read_layout("sd1_vae")
    assert rename_early_attention(layout) == layout
    assert rename_early_attention(to_early(layout)) == layout


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("up.3.x.weight", "up_blocks.0.x.weight"),
        ("up.0.weight", "up_blocks.3.weight"),
        ("in.1.0.skip.weight", "down.0.blocks.0.shortcut.weight"),
        ("in.5.0.conv2.bias", "down.1.blocks.1.conv2.bias"),
        ("in.3.0.op.weight", "down.0.half.weight"),
        ("in.300.0.op.weight", "down.99.half.weight"),
        ("mlp.0.bias", "linear_1.bias"),
        ("mlp.2.bias", "linear_2.bias"),
        ("table", "embed.table"),
    ],
)
def test_names_there_and_back(there, here):
    assert [*to_names({there: (2,)}, TOY)] == [here]
    assert [*to_original_names({here: (2,)}, TOY)] == [there]


@pytest.mark.parametrize(
    "name",
    [
        "up.4.x.weight",  # the level would be -1
        "up.03.x.weight",  # another spelling of the same number
        "up.x.weight",
        "up.3",  # no dot behind it
        "cup.3.x.weight",
        "in.3.0.skip.weight",  # that is where the halving is
        "in.1.1.skip.weight",
        "in.1.0.other.weight",  # nothing inside claims it
        "in.2.0.op.weight",
        "mlp.1.bias",
        "table.weight",
        "table2",
        "in.99999999999999999999.0.op.weight",
        "in." + "9" * 5000 + ".0.op.weight",
        "in.²³.0.op.weight",
        "in.٣.0.op.weight",
        "in.{3l+3}.0.op.weight",
        "",
        ".",
        "4",
    ],
)
def test_a_name_that_no_row_claims_stays(name):
    assert [*to_names({name: (2,)}, TOY)] == [name]


@given(st.lists(st.sampled_from(SCRAPS), max_size=6).map("".join))
def test_any_name_comes_back(name):
    """Claimed or not, unless a row takes it for one of ours."""
    file = {name: (30,)}
    there, back = to_names(file, TOY), to_original_names(file, TOY)
    assert back == file or there == file
    if back == file:
        assert to_original_names(there, TOY) == file
    else:
        assert len(back) == 1


@given(st.integers(0, 99), st.integers(0, 2))
def test_reckoning_is_undone(level, block):
    pattern = parse_pattern("x{3l+r+7}y")
    name = fill_pattern(pattern, {"l": level, "r": block})
    assert name == f"x{3 * level + block + 7}y"
    assert read_indices(pattern, split_name(name)[1], {"r": 3}) == {"l": level, "r": block}


def test_tensors_there_and_back():
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "qkv.weight": (6, 4),
        "qkv.bias": (6,),
        "fused.weight": (10, 3),
        "square.weight": (3, 2, 1, 1),
        "square.bias": (3,),
        "final.weight": (4, 2),
    }
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    ours = to_diffusers(tensors, TOY)
    assert {name: tuple(tensor.shape) for name, tensor in ours.items()} == to_names(shapes, TOY)
    assert torch.equal(ours["k.weight"], tensors["qkv.weight"][2:4])
    assert torch.equal(ours["b.weight"], tensors["fused.weight"][2:])
    assert torch.equal(ours["flat.weight"], tensors["square.weight"][:, :, 0, 0])
    assert torch.equal(ours["out.weight"], tensors["final.weight"][[2, 3, 0, 1]])
    back = to_original(dict(reversed(ours.items())), TOY)  # the order of the parts in a file means nothing
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_the_type_of_the_numbers_stays(dtype):
    tensors = {"qkv.weight": torch.ones(3, 2, dtype=dtype), "final.bias": torch.ones(2, dtype=dtype)}
    ours = to_diffusers(tensors, TOY)
    assert {tensor.dtype for tensor in ours.values()} == {tensor.dtype for tensor in to_original(ours, TOY).values()} == {dtype}


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        ({"qkv.weight": (7, 2)}, r"qkv.weight is \[7, 2\], expected .* 1:1:1"),
        ({"fused.weight": ()}, r"fused.weight is \[\], expected .* 1:4"),
        ({"final.weight": (3, 2)}, r"final.weight is \[3, 2\], expected an even"),
        ({"final.weight": ()}, "expected an even"),
        ({"square.weight": (3, 2, 3, 3)}, r"\[3, 2, 3, 3\], expected a 1x1"),
        ({"table": (1,), "embed.table": (1,)}, r"embed.table.*mixes two layouts"),
        ({"q.weight": (1,), "qkv.weight": (3,)}, r"qkv.weight would be a second q.weight"),
    ],
)
def test_what_cannot_be_cut_is_refused(shapes, complaint):
    with pytest.raises(WeightMismatch, match=complaint) as caught:
        to_names(shapes, TOY)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        ({"q.weight": (1, 2), "v.weight": (1, 2)}, r"qkv.weight is made of 3 tensors, found 2 \(q.weight, v.weight\)"),
        (
            {"q.weight": (1, 2), "k.weight": (1, 2), "v.weight": (2, 2)},
            r"qkv.weight are \[1, 2\], \[1, 2\], \[2, 2\], expected rows as 1:1:1",
        ),
        ({"a.weight": (1, 2), "b.weight": (4, 3)}, "expected rows as 1:4"),
        ({"a.weight": (), "b.weight": ()}, "expected rows as 1:4"),
        ({"q.weight": (1,), "qkv.weight": (3,)}, "would be a second qkv.weight"),
        ({"qkv.weight": (3,), "q.weight": (1,)}, "would be a second qkv.weight"),
        ({"qkv.weight": (3,), "k.weight": (1,)}, "qkv.weight and k.weight would be a second qkv.weight"),
        ({"out.weight": (3,)}, "expected an even"),
    ],
)
def test_what_cannot_be_joined_is_refused(shapes, complaint):
    with pytest.raises(WeightMismatch, match=complaint):
        to_original_names(shapes, TOY)


def test_a_spelling_leads_to_the_layout():
    keymap = Keymap(name="toy", rows=TOY.rows, spellings=(rows(Row("attention.qkv.", "qkv.")), rows(Row("table.weight", "table"))))
    assert to_names({"attention.qkv.bias": (3,), "table.weight": (1,)}, keymap) == to_names({"qkv.bias": (3,), "table": (1,)}, TOY)


def test_dropped_tensors():
    keymap = Keymap(
        name="toy",
        rows=(Row("x.", "y."),),
        dropped=(Dropped("norm.weight", "never used", value=1.0, like="x.bias"), Dropped("null.", "only in training")),
    )
    file = {"x.bias": torch.zeros(2), "norm.weight": torch.full((2,), 7.0), "null.0.weight": torch.ones(1)}
    ours = to_diffusers(file, keymap)
    assert [*ours] == ["y.bias"]
    with pytest.raises(WeightMismatch, match=r"toy has null\., which ours leaves out \(only in training\)"):
        to_original(ours, keymap)
    back = to_original(ours | {"null.0.weight": file["null.0.weight"]}, keymap)
    assert back["norm.weight"].tolist() == [1, 1]
    assert back.keys() == file.keys()
    whole = to_original(ours | {name: file[name] for name in ("null.0.weight", "norm.weight")}, keymap)
    assert all(torch.equal(whole[name], tensor) for name, tensor in file.items())
    with pytest.raises(WeightMismatch, match=r"norm.weight takes its shape from x.bias"):
        to_original({"null.0.weight": torch.ones(1)}, keymap)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (Row("a.{l}.", "b."), "other indices"),
        (Row("a.{l}.{l}.", "b.{l}."), "other indices"),
        (Row("a.{l}.", ("b.{l}.", "c.0.")), "other indices"),
        (Row("a.", "b"), "ends in a dot"),
        (Row("a.{3l+r}.", "b.{l}.c.{r}."), "needs a bound of at most 3"),
        (Row("a.{3l+r}.", "b.{l}.c.{r<4}."), "needs a bound of at most 3"),
        (Row("a.{l+r}.", "b.{l}.c.{r<2}."), "cannot be undone"),
        (Row("a.{3l+2r}.", "b.{l}.c.{r<2}."), "cannot be undone"),
        (Row("a.{l*2}.", "b.{l}."), "cannot read"),
        (Row("a.", ("b.", "c."), shares=(1, 2, 3)), "3 shares for 2 parts"),
        (Row("a.", ("b.", "c."), (Row("d.", "e."),)), "nothing can stand inside"),
        (Row("a", "b", (Row("d.", "e."),)), "nothing can stand inside"),
    ],
)
def test_a_row_that_cannot_be_undone_is_a_defect(row, complaint):
    with pytest.raises(ValueError, match=complaint):
        compile_rules(rows(row))
