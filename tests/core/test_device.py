"""Which device and dtype are taken, and what is said of one that cannot be."""

import pytest
import torch

from eightfold.core.device import choose_placement
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
