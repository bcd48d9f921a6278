"""What a network is built from, as plain data: widths, depths and switches, no tensors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class KLConfig:
    """The convolutional autoencoder with a KL-regularised latent (arXiv 2112.10752, appendix).

    Level i has `width * multipliers[i]` channels; every level but the last halves the picture, so the downscale is 2 ** (levels - 1).
    """

    channels: int
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    groups: int = 32
    middle_attention: bool = True
    quant_convs: bool = True

    @property
    def downscale(self) -> int:
        return 2 ** (len(self.multipliers) - 1)


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The U-Net of latent diffusion with cross-attention to text (arXiv 2112.10752).

    `attention[i]` is the number of transformer blocks behind each residual block of level i (0: none), `middle` that of the middle.
    Either `heads` (the same number everywhere) or `head_width` (a fixed width each) is given.
    `linear_projection`: the transformer's way in and out is a linear map instead of a 1x1 convolution.
    """

    channels: int
    out_channels: int
    context: int
    width: int = 320
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    attention: tuple[int, ...] = (1, 1, 1, 0)
    middle: int = 1
    heads: int | None = None
    head_width: int | None = None
    groups: int = 32
    linear_projection: bool = False

    def to_heads(self, width: int) -> int:
        """The number of attention heads at a level of `width` channels."""
        return self.heads or width // (self.head_width or width)


@dataclass(frozen=True, kw_only=True)
class WordsConfig:
    """A small text encoder over a closed vocabulary; index 0 is padding, 1 begins, the words follow in their order."""

    words: tuple[str, ...]
    width: int
    layers: int
    heads: int
    tokens: int
