"""Other names for the same tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

# Autoencoders saved by early versions of diffusers name the parts of their attention otherwise
EARLY_ATTENTION = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))


def rename_early_attention(tensors: Mapping[str, T]) -> dict[str, T]:
    """`mid_block.attentions.0.query.weight` to `mid_block.attentions.0.to_q.weight` and so on; every other name stays."""
    renamed: dict[str, T] = {}
    for name, tensor in tensors.items():
        for early, now in EARLY_ATTENTION:
            name = name.replace(f".attentions.0.{early}.", f".attentions.0.{now}.")
        renamed[name] = tensor
    return renamed
