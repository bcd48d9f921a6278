"""Random weights that hide no mistake: no norm is the identity, no bias is 0, and signals keep a size of about 1."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def randomise(module: M, seed: int) -> M:
    """Fill all parameters in place, in the order of their names, and switch to evaluation."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        parameter.normal_(generator=generator)
        if parameter.ndim >= 2:
            parameter.mul_(parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            parameter.mul_(0.2)
        else:  # the factors of a norm
            parameter.mul_(0.3).add_(1)
    return module.eval()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def list_norms(module: nn.Module) -> dict[str, tuple[int | None, float]]:
    """Groups (None for a layer norm) and epsilon of every normalisation, by its name."""
    norms = {name: part for name, part in module.named_modules() if isinstance(part, nn.GroupNorm | nn.LayerNorm)}
    return {name: (getattr(norm, "num_groups", None), norm.eps) for name, norm in norms.items()}
