"""Which device and dtype are taken, and what is said of one that cannot be."""

import pytest
import torch

from eightfold.core.device import DTYPES, WIDER, choose_placement, to_half, to_safe
from eightfold.core.errors import RequestError, UnknownName


def test_left_to_itself_it_is_float32():
    place = choose_placement()
    assert place.dtype == torch.float32 and "float32" in place.reason and place.device.type in place.reason


def test_what_is_asked_for_is_taken_and_said():
    place = choose_placement("cpu", "bfloat16")
    assert (place.device.type, place.dtype) == ("cpu", torch.bfloat16) and place.reason.count("asked for") == 2


@pytest.mark.parametrize("device", ["meta", "privateuseone", "gpu", "", "cuda:99", "cpu:x"])
def test_a_device_that_cannot_be(device):
    with pytest.raises(RequestError, match="cannot be used here") as raised:
        choose_placement(device)
    assert "--device cpu" in raised.value.hint


def test_a_dtype_that_cannot_be():
    with pytest.raises(UnknownName, match="float61") as raised:
        choose_placement("cpu", "float61")
    assert "float16" in raised.value.hint


def test_what_is_safe_is_left_alone():
    place = choose_placement("cpu", "bfloat16")
    assert to_safe(place, ("float32", "bfloat16"), "it") is place


@pytest.mark.parametrize(
    ("asked", "safe", "taken"),
    [
        ("float16", ("float32", "bfloat16"), torch.bfloat16),
        ("float16", ("float32",), torch.float32),
        ("bfloat16", ("float32", "float16"), torch.float32),
    ],
)
def test_what_overflows_is_replaced_by_the_next_wider(asked, safe, taken):
    place = to_safe(choose_placement("cpu", asked), safe, "space x")
    assert place.dtype == taken and place.device.type == "cpu"
    assert f"{asked}: asked for, but space x overflows in it: {str(taken).removeprefix('torch.')}" in place.reason


def test_every_dtype_leads_to_the_widest():
    assert set(WIDER) == set(DTYPES) and all(wider[-1:] == ("float32",) for dtype, wider in WIDER.items() if dtype != "float32")


def place_on_cuda(dtype="auto"):
    """As `choose_placement` says it where there is a GPU."""
    place = choose_placement("cpu", dtype)
    return place._replace(device=torch.device("cuda"), reason=place.reason.replace("cpu: asked for", "cuda: the first that is there"))


@pytest.mark.parametrize(
    ("safe", "taken"),
    [(("float32", "bfloat16", "float16"), "float16"), (("float32", "bfloat16"), "bfloat16"), (("float16", "float32"), "float16")],
)
def test_on_a_gpu_16_bits_are_enough(safe, taken):
    place = to_half(place_on_cuda(), safe, "space x")
    assert place.dtype == getattr(torch, taken) and place.device.type == "cuda"
    assert place.reason == f"cuda: the first that is there; {taken}: safe in space x, in half the memory"
    assert not place.is_asked and to_safe(place, safe, "space x") is place


def test_where_32_bits_stay():
    every = ("float32", "bfloat16", "float16")
    for place in (choose_placement("cpu"), place_on_cuda("float32"), place_on_cuda("bfloat16")):
        assert to_half(place, every, "space x") is place
    alone = place_on_cuda()
    assert to_half(alone, ("float32",), "space x") is alone
