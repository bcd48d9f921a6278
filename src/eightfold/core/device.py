"""Which device and number format to use, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .errors import RequestError, UnknownName

if TYPE_CHECKING:
    import torch

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")
WIDER = {"float16": ("bfloat16", "float32"), "bfloat16": ("float32",), "float32": ()}  # what to try next where numbers overflow


class Placement(NamedTuple):
    device: torch.device
    dtype: torch.dtype
    reason: str
    is_asked: bool = True  # whether the dtype is what the user wants, rather than what was chosen


def name_dtype(dtype: torch.dtype) -> str:
    """As people write it: float32."""
    return str(dtype).removeprefix("torch.")


def choose_placement(device: str = "auto", dtype: str = "auto") -> Placement:
    """Device and dtype for a run. Left to "auto": the first accelerator there is, and float32, which no model overflows."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        why = f"{device}: the first that is there"
    else:
        why = f"{device}: asked for"
    if dtype not in ("auto", *DTYPES):
        raise UnknownName("dtype", dtype, ("auto", *DTYPES))
    chosen = "float32" if dtype == "auto" else dtype
    try:
        place = torch.device(device)
        if place.type not in DEVICES:
            raise RuntimeError(f"{place.type} is none of {DEVICES}")
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError):  # torch's own words for a device that is not there differ from kind to kind
        hint = "--device cpu always works; cuda:0 names the first NVIDIA GPU"
        raise RequestError(f"device {device!r} cannot be used here", hint=hint) from None
    reason = f"{why}; {chosen}: {'no model overflows it' if dtype == 'auto' else 'asked for'}"
    return Placement(place, getattr(torch, chosen), reason, dtype != "auto")


def to_half(place: Placement, safe: Sequence[str], where: str) -> Placement:
    """On a GPU, where nobody asked for a dtype: the one of 16 bits that keeps most digits of those that `where` is safe in."""
    import torch

    halves = [dtype for dtype in ("float16", "bfloat16") if dtype in safe]
    if place.is_asked or place.device.type != "cuda" or not halves:
        return place
    before, _, _ = place.reason.partition(";")
    return place._replace(dtype=getattr(torch, halves[0]), reason=f"{before}; {halves[0]}: safe in {where}, in half the memory")


def to_safe(place: Placement, safe: Sequence[str], where: str) -> Placement:
    """The same place with a dtype out of `safe`: its own, else the next wider one, with the reason. `where` is what would overflow."""
    import torch

    asked = name_dtype(place.dtype)
    if asked in safe:
        return place
    wider = next(dtype for dtype in (*WIDER[asked], "float32") if dtype in safe)
    return place._replace(dtype=getattr(torch, wider), reason=f"{place.reason}, but {where} overflows in it: {wider}")
