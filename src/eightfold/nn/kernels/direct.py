"""The same layers in plain torch, on the same planes: what the kernels are held to, and what runs where they cannot or should not."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .before import SMALLEST, Before
from .geometry import Edge, check_edge
from .moments import measure_moments
from .plane import Plane, from_plane


def activate_directly(x: Float[Tensor, "1 c h w"], before: Before | None) -> Float[Tensor, "1 c h w"]:
    """What comes before a layer, in the dtype of `x`, which stays as it is."""
    if before is None:
        return x
    if before.affine is not None:
        centre, scale, offset = torch.from_numpy(before.affine).to(x.dtype).view(3, 1, -1, 1, 1)
        x = torch.addcmul(offset, x - centre, scale)
    if before.gamma is not None:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        x = x * (x.shape[1] ** 0.5 / length.clamp_min(SMALLEST)) * torch.from_numpy(before.gamma).to(x.dtype).view(1, -1, 1, 1)
    own = before.affine is not None or before.gamma is not None
    return F.silu(x, inplace=own) if before.silu else F.relu(x, inplace=own) if before.relu else x


@torch.no_grad()
def convolve_directly(
    weight: Float[Tensor, "o i k k"],
    bias: Float[Tensor, "o"] | None,
    source: Plane,
    *,
    before: Before | None = None,
    residual: Plane | None = None,
    enlarge: bool = False,
    stride: int = 1,
    edge: Edge = "zeros",
) -> Plane:
    """A convolution of a whole plane in the dtype of `weight` (the result is float32).

    `enlarge` repeats every pixel twice each way first. With stride 1 a border of zeros (or with `edge` "repeat" of the pixels at the edge)
    keeps the size; with stride 2 zeros go to the right and the bottom only, as autoencoders have it. Raises ValueError for a repeated edge
    with either of the two.
    """
    check_edge(edge, plain=stride == 1 and not enlarge)
    x = activate_directly(from_plane(source).to(weight.dtype), before)
    if enlarge:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
    beside = weight.shape[-1] // 2
    if stride == 2 or edge == "repeat":
        x = F.pad(x, (0, 1, 0, 1)) if stride == 2 else F.pad(x, (beside,) * 4, mode="replicate")
        beside = 0
    y = F.conv2d(x, weight, bias, stride=stride, padding=beside)
    if residual is not None:
        y = y + from_plane(residual, y.shape[1])
    pixels = y[0].permute(1, 2, 0).to(torch.float32).contiguous().numpy()
    return Plane(pixels=pixels, height=pixels.shape[0], moments=measure_moments(pixels))
