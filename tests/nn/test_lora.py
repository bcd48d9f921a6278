"""Branches beside layers: what a network with changed weights would give, exactly as removable as they came."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from changes import EXAMPLES, build_lora
from eightfold.core.errors import WeightMismatch
from eightfold.denoisers.unet import UNet
from eightfold.nn.lora import attach, has_branches, list_layers
from eightfold.nn.lowrank import Decomposed, LowRank
from eightfold.nn.products import Hadamard
from eightfold.specs.network import UNetConfig
from weights import draw, randomise

TOLERANCE = 1e-5  # of results of size 1
LAYERS = {
    "linear": lambda: nn.Linear(16, 24),
    "linear without bias": lambda: nn.Linear(16, 24, bias=False),
    "convolution": lambda: nn.Conv2d(16, 24, 3, padding=1),
    "1x1 convolution": lambda: nn.Conv2d(16, 24, 1),
    "convolution with a stride": lambda: nn.Conv2d(16, 24, 3, stride=2, padding=1),
    "convolution without bias": lambda: nn.Conv2d(16, 24, 3, bias=False),
}
TOY = UNetConfig(channels=4, out_channels=4, context=12, width=16, multipliers=(1, 2), blocks=1, attention=(1, 1), heads=2, groups=8)


def draw_input(layer):
    return draw(2, 16, 7, 6, seed=99) if isinstance(layer, nn.Conv2d) else draw(2, 5, 16, seed=99)


def with_weight(layer, weight):
    other = copy.deepcopy(layer)
    other.weight.data = weight
    return other


def measure(got, expected):
    """The largest difference, of results that are brought to a size of 1."""
    assert got.shape == expected.shape
    return ((got - expected).abs().max() / expected.std()).item()


def build(kind, seed=3):
    """In a network of one layer."""
    network = nn.Sequential(randomise(LAYERS[kind](), seed))
    return network, draw_input(network[0])


@pytest.mark.parametrize("change", EXAMPLES.values(), ids=EXAMPLES)
@pytest.mark.parametrize("kind", LAYERS)
@torch.no_grad()
def test_a_branch_is_a_changed_weight(kind, change):
    network, x = build(kind)
    example = change(network[0], 5)
    expected, before = with_weight(network[0], example.weight)(x), network(x)
    assert measure(before, expected) > 0.1
    attach(network, {"0": example.change})
    assert measure(network(x), expected) < TOLERANCE


@pytest.mark.parametrize("change", EXAMPLES.values(), ids=EXAMPLES)
def test_a_difference_as_a_matrix(change):
    """With its scale, in float32, out of whatever its factors are stored in."""
    layer = randomise(nn.Conv2d(16, 24, 3), 1)
    example = change(layer, 5)
    if isinstance(example.change, Decomposed):
        return
    matrix = example.change.to_matrix()
    assert matrix.dtype == torch.float32
    assert matrix.shape == example.change.shape == (24, 144)
    assert torch.allclose(matrix, (example.weight - layer.weight).flatten(1), atol=1e-4)


@pytest.mark.parametrize("change", EXAMPLES.values(), ids=EXAMPLES)
@pytest.mark.parametrize("kind", ["linear", "convolution"])
@torch.no_grad()
def test_removal_leaves_nothing(kind, change):
    network, x = build(kind)
    before, inside = network(x), {name: [*vars(part)] for name, part in network.named_modules()}
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    attachment = attach(network, {"0": change(network[0], 5).change})
    assert has_branches(network)
    assert not torch.equal(network(x), before)
    attachment.remove()
    assert torch.equal(network(x), before)
    assert not has_branches(network)
    assert {name: [*vars(part)] for name, part in network.named_modules()} == inside
    assert not network[0]._forward_hooks
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    attachment.remove()  # once more is nothing


@pytest.mark.parametrize("kind", LAYERS)
@torch.no_grad()
def test_several_add_up_by_their_weights(kind):
    """Each is the difference to the network's own weight, whatever came before it: DoRA too."""
    network, x = build(kind)
    bare = copy.deepcopy(network[0])
    own = bare.weight
    chosen = {"LoHa": -0.7, "DoRA": 0.5, "LoRA": 1.25, "LoKr": 0.1, "DoRA by input": 0.3}
    examples = {name: EXAMPLES[name](bare, 5 * n) for n, name in enumerate(chosen)}
    total = own + sum(weight * (examples[name].weight - own) for name, weight in chosen.items())
    attachments = [attach(network, {"0": examples[name].change}, weight) for name, weight in chosen.items()]
    assert measure(network(x), with_weight(bare, total)(x)) < TOLERANCE
    attachments[2].remove()
    total = total - 1.25 * (examples["LoRA"].weight - own)
    assert measure(network(x), with_weight(bare, total)(x)) < TOLERANCE
    attachments[1].weight = 0.0
    total = total - 0.5 * (examples["DoRA"].weight - own)
    assert measure(network(x), with_weight(bare, total)(x)) < TOLERANCE
    for attachment in attachments:
        attachment.remove()
    assert not has_branches(network)


@torch.no_grad()
def test_no_weight_is_no_change():
    """Whatever the numbers: a branch without weight is not run."""
    network, x = build("linear")
    before = network(x)
    broken = LowRank(up=torch.full((24, 1), torch.inf), down=torch.ones(1, 16))
    attachment = attach(network, {"0": broken}, 0.0)
    assert torch.equal(network(x), before)
    attachment.weight = 2.0
    assert not network(x).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_narrow_factors_in_a_wide_network(dtype):
    """Factors are widened before anything is computed."""
    network, x = build("convolution")
    example = build_lora(network[0], 5).change
    narrow = LowRank(up=example.up.to(dtype), down=example.down.to(dtype), scale=example.scale)
    delta = narrow.scale * (narrow.up.double() @ narrow.down.double()).reshape(network[0].weight.shape)
    expected = with_weight(network[0], (network[0].weight + delta).float())(x)
    attach(network, {"0": narrow})
    assert network(x).dtype == torch.float32
    assert measure(network(x), expected) < TOLERANCE


@pytest.mark.parametrize("change", EXAMPLES.values(), ids=EXAMPLES)
@pytest.mark.parametrize("kind", ["linear", "convolution"])
@torch.no_grad()
def test_wide_factors_in_a_narrow_network(kind, change):
    network, x = build(kind)
    example = change(network[0], 5)
    expected = with_weight(network[0], example.weight)(x)
    network.to(torch.bfloat16)
    attach(network, {"0": example.change})
    got = network(x.to(torch.bfloat16))
    assert got.dtype == torch.bfloat16
    assert (got.float() - expected).square().mean().sqrt() < 0.02 * expected.std()


@torch.no_grad()
def test_a_whole_unet():
    """Every layer of it, through the stages' own way to call them."""
    plain = randomise(UNet(TOY), seed=0)
    changed = copy.deepcopy(plain)
    inputs = (draw(2, 4, 8, 8), torch.tensor([437.25, 3.0]), draw(2, 5, 12, seed=1))
    before = plain(*inputs)
    examples = {name: build_lora(layer, n) for n, (name, layer) in enumerate(list_layers(plain))}
    for name, layer in list_layers(changed):
        layer.weight.copy_(layer.weight + 0.1 * (examples[name].weight - layer.weight))
    attachment = attach(plain, {name: example.change for name, example in examples.items()}, 0.1)
    expected = changed(*inputs)
    assert measure(before, expected) > 0.1
    assert measure(plain(*inputs), expected) < 10 * TOLERANCE
    assert all(has_branches(part) for part in (plain.conv_in, plain.down_blocks[0].resnets[0], plain.mid_block.attentions[0]))
    attachment.remove()
    assert torch.equal(plain(*inputs), before)


def test_branches_are_where_they_were_put():
    network = randomise(UNet(TOY), seed=0)
    name = "down_blocks.0.resnets.0.conv2"
    attach(network, {name: build_lora(network.get_submodule(name), 1).change})
    assert has_branches(network.down_blocks[0].resnets[0])
    assert not has_branches(network.down_blocks[1])
    assert not has_branches(network.down_blocks[0].attentions[0])


@torch.no_grad()
def test_a_copy_has_branches_of_its_own():
    network, x = build("linear")
    before = network(x)
    attachment = attach(network, {"0": build_lora(network[0], 5).change})
    other = copy.deepcopy(network)
    changed = network(x)
    attachment.remove()
    assert torch.equal(network(x), before)
    assert has_branches(other)
    assert torch.equal(other(x), changed)


def test_nothing_is_attached_where_one_does_not_fit():
    network = nn.Sequential(randomise(nn.Linear(16, 24), 1), randomise(nn.Linear(24, 20), 2))
    fitting, other = build_lora(network[0], 1).change, build_lora(network[1], 1).change
    with pytest.raises(WeightMismatch, match=r"0 does not fit its weight \[24, 16\]"):
        attach(network, {"1": other, "0": other})
    with pytest.raises(WeightMismatch, match="deep is no linear map"):
        attach(network, {"0": fitting, "deep": fitting})
    assert not has_branches(network)


def test_what_fits():
    linear, wide, small = nn.Linear(16, 24), nn.Conv2d(16, 24, 3), nn.Conv2d(16, 24, 1)
    product = build_lora(linear, 1).change
    assert product.fits(linear)
    assert product.fits(small)
    assert not product.fits(wide)
    cored = EXAMPLES["LoRA, Tucker"](wide, 1).change
    assert cored.fits(wide)
    assert not cored.fits(nn.Linear(16 * 9, 24))
    assert not cored.fits(nn.Conv2d(16, 24, (1, 9)))
    kronecker = EXAMPLES["LoKr"](nn.Linear(18, 24), 1).change  # two groups of channels
    assert kronecker.fits(nn.Linear(18, 24))
    assert not kronecker.fits(nn.Conv2d(9, 24, (1, 2)))
    assert not Decomposed(difference=product, magnitude=torch.ones(16)).fits(linear)
    assert Decomposed(difference=product, magnitude=torch.ones(16), by_input=True).fits(linear)


def test_a_cheap_loha_runs_by_factors():
    """Its products are fewer than those of the layer; no tensor of the layer's size is made."""
    layer = nn.Linear(256, 256)
    first, second = (LowRank(up=draw(256, 4, seed=n), down=draw(4, 256, seed=n + 1)) for n in (0, 2))
    branch = Hadamard(first=first, second=second).build_branch(layer)
    sizes = [cell.cell_contents.numel() for cell in branch.__closure__ if isinstance(cell.cell_contents, torch.Tensor)]
    assert sizes
    assert max(sizes) == 16 * 256


def test_layers_that_run_otherwise_are_no_layers():
    """Torch's own attention reads the weights of its parts and never calls them: a branch there would be silently without effect."""
    network = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(8, 2),
            "grouped": nn.Conv2d(8, 8, 3, groups=2),
            "mirrored": nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
            "after": nn.Linear(8, 8),
            "norm": nn.LayerNorm(8),
        }
    )
    assert [name for name, _ in list_layers(network)] == ["after"]


def test_a_dead_row_stays_finite():
    layer = nn.Linear(4, 3)
    layer.weight.data.zero_()
    zero = LowRank(up=torch.zeros(3, 1), down=torch.zeros(1, 4))
    attach(layer, {"": Decomposed(difference=zero, magnitude=torch.ones(3))})
    assert layer(torch.ones(2, 4)).isfinite().all()


def test_gradients_go_through():
    network, x = build("convolution")
    attach(network, {"0": EXAMPLES["DoRA"](network[0], 5).change})
    x.requires_grad_()
    network(x).square().sum().backward()
    assert x.grad.abs().max() > 0
