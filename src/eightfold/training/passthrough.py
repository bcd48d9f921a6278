"""Starting values with which an autoencoder is a plain shrink-and-enlarge of the colours before it has learned anything.

Channels 0-2 carry the colours and 3-5 their negatives, because silu(x) - silu(-x) = x: what goes in passes every SiLU unharmed.
Residual blocks begin as the identity. Without this the network may lose a whole colour axis early and never find it again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..autoencoders.kl import KLAutoencoder
from ..nn.attention import PixelAttention
from ..nn.stages import Down, ResidualBlock, Up

LOG_VARIANCE = -6.0


@torch.no_grad()
def pass_through(model: KLAutoencoder) -> None:
    """Set the weights in place. Needs at least 6 channels at every width and 3 in the latent; the rest keeps its random start."""
    channels = model.config.channels
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            clear(module.conv2)
            if module.conv_shortcut is not None:
                clear_rows(module.conv_shortcut, 6)
                module.conv_shortcut.weight[:6, :6, 0, 0] = torch.eye(6)
        elif isinstance(module, Down):
            clear_rows(module.conv, 6)
            for channel in range(6):
                module.conv.weight[channel, channel, :2, :2] = 0.25
        elif isinstance(module, Up):
            clear_rows(module.conv, 6)
            for channel in range(6):
                module.conv.weight[channel, channel, 1, 1] = 1.0
        elif isinstance(module, PixelAttention):
            clear(module.to_out[0])
    split_colours(model.encoder.conv_in)
    join_colours(model.encoder.conv_out, scale=1.0)
    model.encoder.conv_out.weight[channels:] = 0
    model.encoder.conv_out.bias[channels:] = LOG_VARIANCE  # type: ignore[index]
    split_colours(model.decoder.conv_in)
    join_colours(model.decoder.conv_out, scale=0.5)
    for quant in (model.quant_conv, model.post_quant_conv):
        if quant is not None:
            clear(quant)
            quant.weight[:, :, 0, 0] = torch.eye(quant.out_channels)


def clear(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.zero_()


def clear_rows(layer: nn.Conv2d, rows: int) -> None:
    layer.weight[:rows] = 0
    bias(layer)[:rows] = 0


def bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def split_colours(layer: nn.Conv2d) -> None:
    """Three channels become +rgb and -rgb; a fourth (the latent's free one) does not reach them."""
    clear_rows(layer, 6)
    for colour in range(3):
        layer.weight[colour, colour, 1, 1] = 1.0
        layer.weight[colour + 3, colour, 1, 1] = -1.0


def join_colours(layer: nn.Conv2d, *, scale: float) -> None:
    clear_rows(layer, 3)
    for colour in range(3):
        layer.weight[colour, colour, 1, 1] = scale
        layer.weight[colour, colour + 3, 1, 1] = -scale
