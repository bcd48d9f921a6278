"""Tensors from one published layout to another, by the rows of a keymap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..core.errors import WeightMismatch
from ..specs.keymap import Keymap
from .rename import Material, join_shapes, rename, rename_back
from .save import Pending

TENSORS = Material[Tensor](
    shape=lambda tensor: tuple(tensor.shape),
    cut=lambda tensor, first, last: tensor[first:last],
    join=lambda pieces: torch.cat(list(pieces)),
    reshape=lambda tensor, shape: tensor.reshape(shape),
    turn=lambda tensor: tensor.T,
    fill=torch.full_like,
)


def join_pending(pieces: Sequence[Pending]) -> Pending:
    """Raises WeightMismatch for pieces of several types: cut again, the whole would not give them back."""
    dtypes = list(dict.fromkeys(str(piece.dtype).removeprefix("torch.") for piece in pieces))
    if len(dtypes) > 1:
        raise WeightMismatch(f"its parts are {' and '.join(dtypes)}", hint="--dtype gives all of them one type")
    return Pending(pieces[0].dtype, join_shapes([piece.shape for piece in pieces]), lambda: torch.cat([piece.read() for piece in pieces]))


PENDING = Material[Pending](
    shape=lambda pending: pending.shape,
    cut=lambda pending, first, last: Pending(pending.dtype, (last - first, *pending.shape[1:]), lambda: pending.read()[first:last]),
    join=join_pending,
    reshape=lambda pending, shape: Pending(pending.dtype, shape, lambda: pending.read().reshape(shape)),
    turn=lambda pending: Pending(pending.dtype, pending.shape[::-1], lambda: pending.read().T),
    fill=lambda like, value: Pending(like.dtype, like.shape, lambda: torch.full(like.shape, value).to(like.dtype)),
)


def to_diffusers(tensors: Mapping[str, Tensor], keymap: Keymap) -> dict[str, Tensor]:
    """The tensors of a file in the keymap's other layout, named and cut as in ours; a file that is in ours stays as it is.

    Pieces of a fused tensor are views of it, so a memory-mapped file stays mapped; only swapped halves are copied.
    Raises WeightMismatch where a tensor cannot be cut as it should, or two would have one name.
    """
    return rename(tensors, keymap, TENSORS)


def to_original(tensors: Mapping[str, Tensor], keymap: Keymap) -> dict[str, Tensor]:
    """The way back, bit for bit: to the keymap's other layout, in its first spelling.

    Raises WeightMismatch where a part is missing, or the other layout has a tensor that ours leaves out and nobody can know. It is taken
    from `tensors` if they hold it under its original name.
    """
    return rename_back(tensors, keymap, TENSORS)
