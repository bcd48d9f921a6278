"""The tensors that change one layer in an adapter's file: what each is for, by the end of its name, and the change they make together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import NoReturn

from torch import Tensor

from ..core.errors import WeightMismatch
from ..nn.lowrank import Change, Decomposed, Difference, Full, LowRank
from ..nn.products import Hadamard, Kronecker
from .formats import DAMAGED, show

Parts = Mapping[str, Tensor]

# How names end, and what such a tensor is. An empty part: what the group found
ENDINGS = (
    (r"\.lora_down\.weight", "down"),  # kohya-ss/sd-scripts
    (r"\.lora_up\.weight", "up"),
    (r"\.lora_mid\.weight", "core"),
    (r"[._]lora(?:_linear_layer)?\.down\.weight", "down"),  # diffusers, with and without attention processors
    (r"[._]lora(?:_linear_layer)?\.up\.weight", "up"),
    (r"\.lora_A(?:\.[^.]+)?\.weight", "down"),  # PEFT; a name of the adapter may stand between
    (r"\.lora_B(?:\.[^.]+)?\.weight", "up"),
    (r"\.lora_magnitude_vector(?:\.[^.]+)?(?:\.weight)?", "magnitude"),
    (r"(?:[._]lora(?:_linear_layer)?)?\.alpha", "alpha"),
    (r"\.dora_scale", "dora_scale"),  # LyCORIS
    (r"\.(hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2)", ""),
    (r"\.(diff)", ""),
)
ENDING = re.compile(rf"(?:{'|'.join(f'(?P<end{number}>{pattern})' for number, (pattern, _) in enumerate(ENDINGS))})\Z")
KINDS = {"up": "LoRA", "down": "LoRA", "hada": "LoHa", "lokr": "LoKr", "diff": "full difference"}


def split_name(name: str) -> tuple[str, str] | None:
    """The layer, as the file spells it, and the part that a tensor is for it; None for a tensor that is no such part."""
    found = ENDING.search(name)
    if found is None or not found.start():
        return None
    part = next(part for number, (_, part) in enumerate(ENDINGS) if found[f"end{number}"] is not None)
    return name[: found.start()], part or found.group().removeprefix(".")


def build_change(layer: str, parts: Parts, *, alpha: float | None = None, by_root: bool = False) -> Change | None:
    """What the parts of one layer make together; None where they are no change, such as a lone alpha.

    `alpha` is used where the file has no tensor for it; without any the scale is 1. `by_root` divides by the root of the rank
    (arXiv 2312.03732). Raises WeightMismatch for parts that are missing or do not fit each other.
    """
    kinds = {KINDS[start] for part in parts if (start := part.split("_")[0]) in KINDS}
    if not kinds:
        return None
    if len(kinds) > 1:
        raise WeightMismatch(f"{show(layer)} is changed by {' and '.join(sorted(kinds))} at once", hint=DAMAGED)
    if "alpha" in parts:
        alpha = read_number(layer, "alpha", parts["alpha"])
    build, rank = BUILDERS[kinds.pop()], count_rank(parts)
    scale = 1.0 if alpha is None or rank is None else alpha / (rank**0.5 if by_root else rank)
    return decompose(layer, build(layer, parts, scale), parts)


def count_rank(parts: Parts) -> int | None:
    """The rank that alpha is divided by; None for a difference without one, which has no scale either (LyCORIS's rule)."""
    for name in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if name in parts and parts[name].ndim:
            return max(1, len(parts[name]))
    return None


def build_lora(layer: str, parts: Parts, scale: float) -> LowRank:
    return build_product(layer, take(layer, parts, "up"), take(layer, parts, "down"), take_core(layer, parts, "core"), scale)


def build_loha(layer: str, parts: Parts, scale: float) -> Hadamard:
    first, second = (build_half(layer, parts, f"hada_w{number}", f"hada_t{number}") for number in (1, 2))
    if first.shape != second.shape or first.kernel != second.kernel:
        raise WeightMismatch(
            f"the halves of {show(layer)} are {list(first.shape)} and {list(second.shape)}, expected the same", hint=DAMAGED
        )
    return Hadamard(first=first, second=second, scale=scale)


def build_lokr(layer: str, parts: Parts, scale: float) -> Kronecker:
    halves = [
        Full(matrix=take(layer, parts, name)) if name in parts else build_half(layer, parts, name, "lokr_t2" if name == "lokr_w2" else "")
        for name in ("lokr_w1", "lokr_w2")
    ]
    return Kronecker(left=halves[0], right=halves[1], scale=scale)


def build_full(layer: str, parts: Parts, scale: float) -> Full:
    return Full(matrix=take(layer, parts, "diff"))


BUILDERS = {"LoRA": build_lora, "LoHa": build_loha, "LoKr": build_lokr, "full difference": build_full}


def build_half(layer: str, parts: Parts, name: str, core_name: str) -> LowRank:
    """One factor of LoHa or LoKr, itself a product; with a core its first matrix lies the other way round."""
    core = take_core(layer, parts, core_name)
    first, second = take(layer, parts, f"{name}_a"), take(layer, parts, f"{name}_b")
    return build_product(layer, first if core is None else first.T, second, core, 1.0)


def build_product(layer: str, up: Tensor, down: Tensor, core: Tensor | None, scale: float) -> LowRank:
    inner = (len(down), len(down)) if core is None else (core.shape[0], core.shape[1])
    if (up.shape[1], len(down)) != inner:
        shapes = ", ".join(str(list(one.shape)) for one in (up, *(() if core is None else (core,)), down))
        raise WeightMismatch(f"the factors of {show(layer)} are {shapes}: they cannot be multiplied", hint=DAMAGED)
    return LowRank(up=up, down=down, core=core, scale=scale)


def decompose(layer: str, difference: Difference, parts: Parts) -> Change:
    """The change with the lengths of its rows, or of its input channels, where the file has them."""
    name = next((one for one in ("magnitude", "dora_scale") if one in parts), None)
    if name is None:
        return difference
    lengths = parts[name]
    if not lengths.is_floating_point():
        refuse(layer, name, lengths, "lengths")
    if name == "magnitude":  # PEFT: one number a row, in whatever shape
        return Decomposed(difference=difference, magnitude=lengths.flatten())
    rows = difference.shape[0]
    if lengths.numel() == rows and (lengths.ndim < 2 or len(lengths) == rows):
        return Decomposed(difference=difference, magnitude=lengths.flatten())
    if lengths.ndim < 2 or lengths.shape[1] != lengths.numel():
        refuse(layer, name, lengths, f"{rows} numbers, or one for each input channel")
    return Decomposed(difference=difference, magnitude=lengths.flatten(), by_input=True)


def take(layer: str, parts: Parts, name: str) -> Tensor:
    """A factor as a matrix: of a convolution's weight the axes but the first are joined."""
    if name not in parts:
        raise WeightMismatch(f"{show(layer)} lacks its {name}; it has {', '.join(sorted(parts))}", hint=DAMAGED)
    tensor = parts[name]
    if tensor.ndim not in (2, 4) or not tensor.numel() or not tensor.is_floating_point():
        refuse(layer, name, tensor, "the weight of a linear map or of a convolution")
    return tensor.flatten(1)


def take_core(layer: str, parts: Parts, name: str) -> Tensor | None:
    core = parts.get(name)
    if core is not None and (core.ndim != 4 or not core.numel() or not core.is_floating_point()):
        refuse(layer, name, core, "the weight of a convolution")
    return core


def read_number(layer: str, name: str, tensor: Tensor) -> float:
    number = float(tensor) if tensor.numel() == 1 else float("nan")
    if not isfinite(number):
        refuse(layer, name, tensor, "one finite number")
    return number


def refuse(layer: str, name: str, tensor: Tensor, expected: str) -> NoReturn:
    kind = str(tensor.dtype).removeprefix("torch.")
    raise WeightMismatch(f"{name} of {show(layer)} is {list(tensor.shape)} ({kind}), expected {expected}", hint=DAMAGED)
