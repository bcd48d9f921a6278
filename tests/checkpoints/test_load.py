"""Weights into networks: strictly, by memory map, and never built twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from eightfold.autoencoders.kl import KLAutoencoder
from eightfold.checkpoints.load import load_module, read_tensors
from eightfold.core.errors import CheckpointError, WeightMismatch
from eightfold.families.spaces import SD
from eightfold.specs.network import KLConfig

CONFIG = KLConfig(channels=4, width=8, multipliers=(1, 2), blocks=1, groups=4)
MAPS = Path("/proc/self/maps")


class Toy(nn.Module):
    """A number with a fraction, and a count without."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("count", torch.tensor(0))


def toy_tensors(**changes):
    tensors = {"linear.weight": torch.arange(6.0).reshape(2, 3), "linear.bias": torch.ones(2), "count": torch.tensor(7)}
    tensors |= {name.replace("_", "."): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def load_toy(tensors, **options):
    return load_module(Toy, tensors, source="toy.safetensors", **options)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.safetensors"
    model = KLAutoencoder(CONFIG)
    save_file({f"autoencoder.{name}": tensor for name, tensor in model.state_dict().items()} | {"text.word": torch.ones(3)}, path)
    return path, model.state_dict()


def list_mapped(path):
    """The addresses at which this process has mapped `path`."""
    spans = [line.split()[0].split("-") for line in MAPS.read_text().splitlines() if line.endswith(str(path))]
    return [range(int(first, 16), int(last, 16)) for first, last in spans]


def test_a_prefix_selects_and_goes(file):
    path, state = file
    tensors = read_tensors(path, "autoencoder.")
    assert set(tensors) == set(state)
    assert all(torch.equal(tensors[name], state[name]) for name in state)
    assert set(read_tensors(path, "text.")) == {"word"}
    assert set(read_tensors(path)) == {*(f"autoencoder.{name}" for name in state), "text.word"}
    assert read_tensors(path, "denoiser.") == {}


def test_there_and_back(file):
    path, state = file
    model = load_module(lambda: KLAutoencoder(CONFIG), read_tensors(path, "autoencoder."), source=str(path))
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert model.decode(torch.zeros(1, 4, 2, 2)).shape == (1, 3, 4, 4)


@pytest.mark.skipif(not MAPS.exists(), reason="this system does not list its memory maps")
def test_weights_stay_in_the_file(file):
    path, _ = file
    tensors = read_tensors(path, "autoencoder.")
    model = load_module(lambda: KLAutoencoder(CONFIG), tensors, source=str(path))
    spans = list_mapped(path)
    assert spans
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == tensors[name].data_ptr()
        assert any(tensor.data_ptr() in span for span in spans), name


def test_the_network_is_built_without_memory():
    """335 MB at the full width, none of them taken; and the misfit is found on shapes alone."""
    built = []

    def build():
        built.append(KLAutoencoder(SD.autoencoder))
        return built[0]

    with pytest.raises(WeightMismatch):
        load_module(build, {}, source="empty.safetensors")
    assert {tensor.device.type for tensor in built[0].state_dict().values()} == {"meta"}


def test_nothing_is_left_on_meta(file):
    path, _ = file
    model = load_module(lambda: KLAutoencoder(CONFIG), read_tensors(path, "autoencoder."), source=str(path))
    assert {tensor.device.type for tensor in [*model.parameters(), *model.buffers()]} == {"cpu"}


def test_a_misfit_changes_nothing_outside():
    with pytest.raises(WeightMismatch):
        load_toy(toy_tensors(linear_bias=None))
    assert nn.Linear(1, 1).weight.device.type == "cpu"  # the default device is back


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"linear_bias": None}, ["1 missing (linear.bias)"]),
        ({"linear_bias": None, "linear_weight": None}, ["2 missing (linear.weight, linear.bias)"]),
        ({"other": torch.ones(1)}, ["1 unknown (other)"]),
        ({"linear_weight": torch.ones(3, 2)}, ["linear.weight is [3, 2], expected [2, 3]"]),
        ({"linear_weight": torch.ones(2, 3, 1, 1)}, ["linear.weight is [2, 3, 1, 1], expected [2, 3]"]),
        ({"linear_bias": None, "other": torch.ones(1), "linear_weight": torch.ones(1)}, ["linear.bias", "other", "linear.weight is [1]"]),
        ({"linear_weight": torch.ones(2, 3, dtype=torch.int8)}, ["linear.weight is int8, expected float32"]),
        ({"count": torch.tensor(7.0)}, ["count is float32, expected int64"]),
        ({name: torch.ones(1) for name in "bcde"}, ["4 unknown (b, c, d, ...)"]),
    ],
)
def test_a_misfit_is_named(changes, words):
    with pytest.raises(WeightMismatch) as caught:
        load_toy(toy_tensors(**changes))
    message = str(caught.value)
    assert message.startswith("toy.safetensors ")
    assert all(word in message for word in words), message
    assert "eightfold info" in caught.value.hint


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn])
@pytest.mark.parametrize("wanted", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_with_a_fraction_are_converted(stored, wanted):
    model = load_toy(toy_tensors(linear_weight=toy_tensors()["linear.weight"].to(stored)), dtype=wanted)
    assert model.linear.weight.dtype == model.linear.bias.dtype == wanted
    assert model.linear.weight.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert model.count.dtype == torch.int64
    assert model.count == 7


def test_float32_unless_asked_otherwise():
    tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in toy_tensors().items()}
    assert load_toy(tensors).linear.weight.dtype == torch.float32


def test_what_is_converted_stands_in_one_piece():
    """Which goes back to the system whole; what keeps its type stays where it is."""
    tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in toy_tensors().items()}
    model = load_toy(tensors)
    weight, bias = model.linear.weight, model.linear.bias
    assert weight.untyped_storage().data_ptr() == bias.untyped_storage().data_ptr()
    assert abs(weight.data_ptr() - bias.data_ptr()) >= 64 and weight.data_ptr() % 64 == bias.data_ptr() % 64 == 0
    assert model.count.data_ptr() == tensors["count"].data_ptr()
    assert load_toy(toy_tensors(linear_bias=torch.ones(2, dtype=torch.float16))).linear.bias.tolist() == [1, 1]


def test_tensors_without_numbers_are_converted():
    module = load_module(lambda: nn.Linear(0, 0), {"weight": torch.ones(0, 0).half(), "bias": torch.ones(0).half()}, source="empty")
    assert module.weight.dtype == torch.float32 and module.weight.shape == (0, 0)


def test_loading_does_not_change_what_it_was_given():
    tensors = toy_tensors()
    load_toy(tensors, dtype=torch.float16)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_cut_file_is_named(file, kept):
    path, _ = file
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors") as caught:
        read_tensors(path)
    assert caught.value.hint


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors"):
        read_tensors(tmp_path / "nowhere.safetensors")
