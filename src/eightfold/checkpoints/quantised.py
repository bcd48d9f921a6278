"""Quantised blocks of GGUF files back to numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

NUMBERS = 32  # in a block of each type


def dequantise(content: UInt8[Tensor, " bytes"], dtype: str) -> Float[Tensor, " n"]:
    """The numbers, float32, of the blocks in `content`; `dtype` is one of BLOCKS. Every block begins with its step in float16."""
    width, to_numbers = BLOCKS[dtype]
    blocks = content.reshape(-1, width)
    steps = blocks[:, :2].contiguous().view(torch.float16).float()
    return (to_numbers(blocks[:, 2:]).float() * steps).flatten()


def to_bytes(codes: UInt8[Tensor, "blocks 32"]) -> Tensor:
    """Q8_0: a signed byte a number."""
    return codes.view(torch.int8)


def to_nibbles(codes: UInt8[Tensor, "blocks 16"]) -> Tensor:
    """Q4_0: the low halves of the 16 bytes are the first 16 numbers, the high halves the others; 8 stands for 0."""
    return torch.cat([codes & 15, codes >> 4], dim=1).to(torch.int8) - 8


BLOCKS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {"Q8_0": (2 + NUMBERS, to_bytes), "Q4_0": (2 + NUMBERS // 2, to_nibbles)}
