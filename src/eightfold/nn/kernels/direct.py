"""The same layers in plain torch, on the same planes: what the kernels are held to, and what runs where they cannot or should not."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .moments import measure_moments
from .plane import Plane, from_plane


def activate_directly(x: Float[Tensor, "1 c h w"], affine: np.ndarray | None, with_silu: bool = True) -> Float[Tensor, "1 c h w"]:
    """(x - centre) * scale + offset, then SiLU."""
    if affine is None:
        return x
    centre, scale, offset = torch.from_numpy(affine).to(x.dtype).view(3, 1, -1, 1, 1)
    normal = torch.addcmul(offset, x - centre, scale)
    return F.silu(normal, inplace=True) if with_silu else normal


@torch.no_grad()
def convolve_directly(
    weight: Float[Tensor, "o i k k"],
    bias: Float[Tensor, "o"] | None,
    source: Plane,
    *,
    affine: np.ndarray | None = None,
    residual: Plane | None = None,
    enlarge: bool = False,
    stride: int = 1,
) -> Plane:
    """A convolution of a whole plane in the dtype of `weight` (the result is float32).

    `enlarge` repeats every pixel twice each way first. With stride 1 a border of zeros keeps the size; with stride 2 zeros go to the right
    and the bottom only, as autoencoders have it.
    """
    x = activate_directly(from_plane(source).to(weight.dtype), affine)
    if enlarge:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
    padded = F.pad(x, (0, 1, 0, 1)) if stride == 2 else x
    y = F.conv2d(padded, weight, bias, stride=stride, padding=0 if stride == 2 else weight.shape[-1] // 2)
    if residual is not None:
        y = y + from_plane(residual, y.shape[1])
    pixels = y[0].permute(1, 2, 0).to(torch.float32).contiguous().numpy()
    return Plane(pixels=pixels, height=pixels.shape[0], moments=measure_moments(pixels))
