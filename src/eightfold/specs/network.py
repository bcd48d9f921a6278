"""What a network is built from, as plain data: widths, depths and switches, no tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
class Flux2Config:
    """FLUX.2's autoencoder: that of KLConfig, with the statistics of its packed latents kept among the weights.

    A narrower `decoder_width` is that of the public small decoder. `patch` is the side of the square of cells that are packed.
    """

    channels: int = 32
    width: int = 128
    decoder_width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    groups: int = 32
    patch: int = 2

    @property
    def downscale(self) -> int:
        return 2 ** (len(self.multipliers) - 1)

    def to_kl(self, width: int) -> KLConfig:
        """The encoder's half of the network, or with the other width the decoder's."""
        return KLConfig(channels=self.channels, width=width, multipliers=self.multipliers, blocks=self.blocks, groups=self.groups)


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """The small distilled autoencoder TAESD: plain convolutions of one width, a few residual blocks a level.

    `blocks` are counted from the picture down; the decoder has as many a level, but at the picture's resolution `last`. `halves` are those
    that are there.
    """

    channels: int
    width: int = 64
    blocks: tuple[int, ...] = (1, 3, 3, 3)
    last: int = 1
    halves: tuple[Literal["encoder", "decoder"], ...] = ("encoder", "decoder")

    @property
    def downscale(self) -> int:
        return 2 ** (len(self.blocks) - 1)


@dataclass(frozen=True, kw_only=True)
class IdentityConfig:
    """No network: the raw latent is the image."""

    channels: int = 3
    downscale: int = 1


@dataclass(frozen=True, kw_only=True)
class VectorConfig:
    """What Stable Diffusion XL is told beside tokens (arXiv 2307.01952, section 2.2): the text as a whole and a few numbers, in one vector.

    `pooled` is the width of the text's embedding, `numbers` names what follows it in this order, each as `sinusoid` sines and cosines.
    """

    pooled: int
    numbers: tuple[str, ...]
    sinusoid: int = 256

    @property
    def width(self) -> int:
        return self.pooled + len(self.numbers) * self.sinusoid


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The U-Net of latent diffusion with cross-attention to text (arXiv 2112.10752).

    `attention[i]` is the number of transformer blocks behind each residual block of level i (0: none), `middle` that of the middle.
    Either `heads` (the same number everywhere) or `head_width` (a fixed width each) is given.
    `linear_projection`: the transformer's way in and out is a linear map instead of a 1x1 convolution. `vector`: what is added to the
    embedding of the timestep. `guidance` is for a network that was distilled to guided results: its scale is told to it in so many
    sines and cosines (arXiv 2210.03142, section 3).
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
    vector: VectorConfig | None = None
    guidance: int | None = None

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


@dataclass(frozen=True, kw_only=True)
class QwenConfig:
    """Qwen-Image's autoencoder (arXiv 2508.02324): that of Wan 2.1 (arXiv 2503.20314) for one frame, normalised over channels.

    Level i has `width * multipliers[i]` channels; every level but the last halves the picture.
    """

    channels: int
    width: int = 96
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2

    @property
    def downscale(self) -> int:
        return 2 ** (len(self.multipliers) - 1)


@dataclass(frozen=True, kw_only=True)
class HunyuanConfig:
    """HunyuanImage 2.1's autoencoder: resolutions are joined by packing pixels into channels (arXiv 2410.10733).

    Level i has `width * multipliers[i]` channels; every level but the last halves the picture. Twice `channels` divides the last width.
    """

    channels: int
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4, 8, 8)
    blocks: int = 2
    groups: int = 32

    @property
    def downscale(self) -> int:
        return 2 ** (len(self.multipliers) - 1)


@dataclass(frozen=True, kw_only=True)
class RefinerConfig:
    """The autoencoder of HunyuanImage 2.1's refiner for one frame: packing as in HunyuanConfig, normalised over channels.

    `halvings_of_time`: on so many ways down, those nearest to the latent, a video would be halved in time too. For one frame
    that leaves a trace: the convolution makes half the channels, and they are taken twice.
    """

    channels: int
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    blocks: int = 2
    halvings_of_time: int = 2

    @property
    def downscale(self) -> int:
        return 2 ** (len(self.multipliers) - 1)


@dataclass(frozen=True, kw_only=True)
class RRDBConfig:
    """A network that enlarges pictures, of residual-in-residual dense blocks (arXiv 1809.00219).

    Every picture is doubled `doublings` times; with `folding` above 1, squares of so many pixels a side become channels first, so that the
    network works on fewer of them. `growth` is what each convolution of a dense block adds.
    """

    width: int = 64
    growth: int = 32
    blocks: int = 23
    doublings: int = 2
    folding: int = 1

    @property
    def factor(self) -> float:
        """How many times larger the result is."""
        return 2**self.doublings / self.folding


AutoencoderConfig = KLConfig | Flux2Config | QwenConfig | HunyuanConfig | RefinerConfig | TinyConfig | IdentityConfig
