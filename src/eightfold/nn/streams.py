"""The 3x3 convolutions of a U-Net's stages with fewer operations, on batches of feature maps with channels last.

Importing this loads numba: see `nn.kernels.ready`.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .fast import LEAST, FastKernels, describe, to_prepared
from .graph import Before
from .kernels.before import Before as Prepared
from .kernels.layers import gather_moments
from .kernels.linear import apply_rows, fits_linear
from .kernels.moments import Moments
from .kernels.packed import choose_lanes
from .kernels.plane import Plane
from .kernels.rounding import ALLOWED, Gain, measure_gain, predict_spread, should_run_directly, to_reach
from .kernels.streamed import Image, convolve_streamed, fits


@dataclass(frozen=True, kw_only=True, eq=False)
class Map:
    """Feature maps of a batch, [b, h, w, c] and contiguous, with the moments of each where the layer that made them left those."""

    pixels: Float[Tensor, "b h w c"]
    moments: tuple[Moments, ...] | None = None

    @property
    def images(self) -> Float[Tensor, "b c h w"]:
        """The same memory as torch's layers take it."""
        return self.pixels.permute(0, 3, 1, 2)


def to_map(images: Float[Tensor, "b c h w"]) -> Map:
    """No copy where the channels are last in memory already."""
    return Map(pixels=images.permute(0, 2, 3, 1).contiguous())


def join_channels(first: Map, second: Map) -> Map:
    moments = None
    if first.moments is not None and second.moments is not None:
        moments = tuple(join_pair(one, other) for one, other in zip(first.moments, second.moments, strict=True))
    return Map(pixels=torch.cat([first.pixels, second.pixels], dim=-1), moments=moments)


def join_pair(first: Moments, second: Moments) -> Moments:
    peak = None if first.peak is None or second.peak is None else np.concatenate([first.peak, second.peak])
    mean, squares = np.concatenate([first.mean, second.mean]), np.concatenate([first.squares, second.squares])
    return Moments(count=first.count, mean=mean, squares=squares, peak=peak)


class Streams:
    """`kernels` lend their threads and buffers. How a layer's weights round is measured once, when it first runs."""

    def __init__(self, kernels: FastKernels) -> None:
        self.widest, self.pool = kernels.lanes, kernels.pool
        self.name = f"Winograd F(4x4, 3x3), vectors of {kernels.lanes}, weights prepared panel by panel"
        self.gains: WeakKeyDictionary[nn.Module, Gain] = WeakKeyDictionary()

    def is_fast(self, conv: nn.Conv2d, x: Map, *, enlarge: bool = False) -> bool:
        """Whether a layer fits the kernels and is large enough for them. `x` is what it reads."""
        batch, height, width, _ = x.pixels.shape
        plain = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups) == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
        if not plain or conv.padding_mode != "zeros" or conv.weight.dtype != torch.float32 or not conv.weight.is_contiguous():
            return False
        work = 2.0 * batch * height * width * conv.weight.numel() * (4 if enlarge else 1)
        return work >= LEAST and fits(conv.in_channels, conv.out_channels, self.choose_lanes(conv))

    def choose_lanes(self, conv: nn.Conv2d) -> int:
        return choose_lanes(conv.in_channels, conv.out_channels, self.widest)

    def measure(self, x: Map) -> tuple[Moments, ...]:
        """The moments that `x` came with, or those of its pixels; its channels are those of a fast layer."""
        lanes = self.widest if x.pixels.shape[-1] % self.widest == 0 else min(8, self.widest)
        return x.moments or tuple(gather_moments(to_plane(pixels), lanes=lanes, pool=self.pool) for pixels in x.pixels)

    def is_risky(self, conv: nn.Conv2d, moments: Moments, before: Prepared, *, enlarge: bool) -> bool:
        """Whether outliers in its input could spoil a layer's results by rounding: see `kernels.rounding`."""
        if conv not in self.gains:
            weight = conv.weight.detach()
            self.gains[conv] = measure_gain(describe(weight, self.choose_lanes(conv), enlarge=enlarge), weight, pool=self.pool)
        gain, reach = self.gains[conv], to_reach(moments, before, conv.in_channels)
        return should_run_directly(gain, reach, ALLOWED * predict_spread(gain, moments, before))

    def convolve(
        self,
        conv: nn.Conv2d,
        x: Map,
        *,
        norm: nn.GroupNorm | None = None,
        added: Float[Tensor, "b o"] | None = None,
        residual: Float[Tensor, "b y x o"] | None = None,
        target: Float[Tensor, "b y x o"] | None = None,
        enlarge: bool = False,
    ) -> Map | None:
        """The layer behind `norm` and SiLU (with one), plus `added` to every pixel, plus `residual`, into `target` or new memory.

        `target` may be `residual`. `enlarge` doubles every pixel each way first. None, with nothing written, where it would round too
        much.
        """
        batch, height, width, _ = x.pixels.shape
        moments, scale = self.measure(x), 2 if enlarge else 1
        befores = [to_prepared(Before(group=norm, silu=norm is not None), one) for one in moments]
        if any(self.is_risky(conv, *pair, enlarge=enlarge) for pair in zip(moments, befores, strict=True)):
            return None
        made = torch.empty(batch, scale * height, scale * width, conv.out_channels) if target is None else target
        images = [
            Image(
                source=to_plane(x.pixels[index]),
                target=to_plane(made[index]),
                bias=to_bias(conv, None if added is None else added[index]),
                before=befores[index],
                residual=None if residual is None else to_plane(residual[index]),
            )
            for index in range(batch)
        ]
        convolve_streamed(conv.weight.detach().numpy(), images, lanes=self.choose_lanes(conv), enlarge=enlarge, pool=self.pool)
        return Map(pixels=made, moments=tuple(image.target.moments for image in images if image.target.moments is not None))

    def halve(self, conv: nn.Conv2d, x: Map) -> Map:
        """A 3x3 convolution with stride 2 and a border of zeros, as a linear map of patches: torch's reorders its weights at every call."""
        patches = F.pad(x.pixels, (0, 0, 1, 1, 1, 1)).unfold(1, 3, 2).unfold(2, 3, 2)  # b y x c 3 3: in the order of the weights
        made = self.apply(conv.weight.flatten(1), conv.bias, patches.flatten(3))
        return Map(pixels=made)

    def apply(
        self,
        weight: Float[Tensor, "o i"],
        bias: Float[Tensor, "o"] | None,
        x: Float[Tensor, "*n i"],
        target: Float[Tensor, "*n o"] | None = None,
    ) -> Float[Tensor, "*n o"]:
        """A linear map, into `target` or new memory; torch's where it does not fit the kernels or is too small for them."""
        lanes, outputs = choose_lanes(weight.shape[1], len(weight), self.widest), len(weight)
        plain = all(one.dtype == torch.float32 and one.is_contiguous() for one in (weight, x))
        if not plain or 2.0 * x.numel() * outputs < LEAST or not fits_linear(weight.shape[1], outputs, lanes):
            return F.linear(x, weight, bias) if target is None else target.copy_(F.linear(x, weight, bias))
        made = x.new_empty(*x.shape[:-1], outputs) if target is None else target
        numbers = None if bias is None else bias.detach().numpy()
        rows = x.detach().view(-1, x.shape[-1]).numpy(), made.view(-1, outputs).numpy()
        apply_rows(weight.detach().numpy(), numbers, *rows, lanes=lanes, pool=self.pool)
        return made


def to_bias(conv: nn.Conv2d, added: Float[Tensor, "o"] | None) -> np.ndarray:
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
    return (bias if added is None else bias + added).contiguous().numpy()


def to_plane(pixels: Float[Tensor, "h w c"]) -> Plane:
    return Plane(pixels=pixels.numpy(), height=pixels.shape[0])
