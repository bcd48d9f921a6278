"""What a latent shows, without decoding it: each cell's mean colour as a linear map of its channels, fitted on the autoencoder itself.

Or decoded by a small autoencoder, where the user has one for the model's space.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..checkpoints.known import read_table, write_table
from ..codec.codec import Codec
from ..codec.load import load_codec
from ..core.device import Placement
from ..core.errors import CheckpointError, OutputError
from .references import draw_references

TABLE = "previews.json"
COLUMNS = 8  # of the pictures that it is fitted on, laid side by side
RIDGE = 1e-4  # of the spread of the channels: where there are few cells for many channels
FITTED: WeakKeyDictionary[Codec, Tensor] = WeakKeyDictionary()


def to_preview(codec: Codec, raw: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 3 h w"]:
    """A raw latent as a picture of one pixel a cell, in [-1, 1]. The first time an autoencoder is asked takes a second or two."""
    if codec not in FITTED:
        FITTED[codec] = find_map(codec)
    weights = FITTED[codec]
    cells = rearrange(raw.cpu().float(), "1 c h w -> h w c")
    return rearrange(cells @ weights[1:] + weights[0], "h w c -> 1 c h w").clamp(-1, 1)


def load_preview(path: str | Path, codec: Codec, placement: Placement) -> Codec:
    """An autoencoder that decodes in place of a model's own `codec`: of the same space and with its normalisation.

    Raises SpaceMismatch for one of another space, CheckpointError for a file that has no decoder.
    """
    found = load_codec(path, placement=placement, space=codec.space.name)
    if not found.decoder_fingerprint:
        raise CheckpointError(f"{path} is an encoder alone, which shows nothing", hint="name the file of the decoder")
    return replace(found, normalisation=codec.normalisation, engine=codec.engine)


def find_map(codec: Codec) -> Float[Tensor, "c 3"]:
    """The one that was kept for these weights, else one that is fitted and kept."""
    name = codec.decoder_fingerprint
    with suppress(CheckpointError):
        kept = read_table(TABLE).get(name) if name else None
        if kept is not None:
            return torch.tensor(kept)
    found = fit_map(codec)
    with suppress(OutputError, CheckpointError):  # a cache that cannot be written only costs time
        if name:
            write_table(TABLE, {**read_table(TABLE), name: found.numpy().tolist()})
    return found


def fit_map(codec: Codec) -> Float[Tensor, "c 3"]:
    """By least squares over the package's own pictures: the constant's row, then one a channel."""
    pictures = draw_references()
    rows = [torch.cat(pictures[start : start + COLUMNS], dim=-1) for start in range(0, len(pictures), COLUMNS)]
    image = torch.cat(rows, dim=-2)
    cells = rearrange(codec.encode(image).raw.cpu().double(), "1 c h w -> (h w) c")
    colours = rearrange(F.avg_pool2d(image, codec.space.downscale).double(), "1 c h w -> (h w) c")
    mean, means = cells.mean(dim=0), colours.mean(dim=0)
    spread = (cells - mean).T @ (cells - mean)
    ridge = RIDGE * spread.diagonal().mean() * torch.eye(len(spread), dtype=torch.float64)
    weights = (spread + ridge).inverse() @ ((cells - mean).T @ (colours - means))
    return torch.cat([(means - mean @ weights)[None], weights]).float()
