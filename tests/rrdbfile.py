"""ESRGAN's generator, written from the paper in plain functions over tensors, and its files in the three published layouts."""

from __future__ import annotations

import re

import torch
from torch import Tensor
from torch.nn import functional as F

from eightfold.nn.rrdb import RRDBNet
from eightfold.specs.network import RRDBConfig
from weights import randomise

CONFIGS = {
    "x4": RRDBConfig(width=8, growth=4, blocks=2),
    "x2": RRDBConfig(width=8, growth=4, blocks=1, doublings=1),
    "x1": RRDBConfig(width=8, growth=4, blocks=1, doublings=0),
    "x8": RRDBConfig(width=8, growth=4, blocks=1, doublings=3),
    "x2, folded": RRDBConfig(width=8, growth=4, blocks=1, folding=2),
    "x1, folded": RRDBConfig(width=8, growth=4, blocks=1, folding=4),
}


def build(config: RRDBConfig, seed: int = 1) -> RRDBNet:
    return randomise(RRDBNet(config), seed=seed)


def run_plainly(tensors: dict[str, Tensor], config: RRDBConfig, image: Tensor) -> Tensor:
    """Figure 4 of the paper, with the residual scaling of section 3.1."""

    def convolve(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1)

    def bend(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    b, c, h, w = image.shape
    side = config.folding
    folded = image.reshape(b, c, h // side, side, w // side, side).permute(0, 1, 3, 5, 2, 4).reshape(b, c * side**2, h // side, w // side)
    x = start = convolve(folded, "conv_first")
    for block in range(config.blocks):
        whole = x
        for dense in (1, 2, 3):
            name, before = f"body.{block}.rdb{dense}", x
            one = bend(convolve(x, f"{name}.conv1"))
            two = bend(convolve(torch.cat([x, one], 1), f"{name}.conv2"))
            three = bend(convolve(torch.cat([x, one, two], 1), f"{name}.conv3"))
            four = bend(convolve(torch.cat([x, one, two, three], 1), f"{name}.conv4"))
            x = before + 0.2 * convolve(torch.cat([x, one, two, three, four], 1), f"{name}.conv5")
        x = whole + 0.2 * x
    x = start + convolve(x, "conv_body")
    for number in range(config.doublings):
        x = bend(convolve(x.repeat_interleave(2, 2).repeat_interleave(2, 3), f"conv_up{number + 1}"))
    return convolve(bend(convolve(x, "conv_hr")), "conv_last")


def to_middle(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    rows = ((r"^body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB"), ("^conv_body", "trunk_conv"), ("^conv_up", "upconv"), ("^conv_hr", "HRconv"))
    return {rename(name, rows): tensor for name, tensor in tensors.items()}


def to_old(tensors: dict[str, Tensor], config: RRDBConfig) -> dict[str, Tensor]:
    """A list in which an enlarging, its convolution and its rectifier are an entry each."""
    places = {f"conv_up{number}": 3 * number for number in range(1, config.doublings + 1)}
    places |= {"conv_hr": 3 * config.doublings + 2, "conv_last": 3 * config.doublings + 4}
    rows = [(r"^body\.(\d+)\.rdb([123])\.(conv[1-5])", r"model.1.sub.\1.RDB\2.\3.0"), ("^conv_first", "model.0")]
    rows += [("^conv_body", f"model.1.sub.{config.blocks}"), *((f"^{name}", f"model.{place}") for name, place in places.items())]
    return {rename(name, rows): tensor for name, tensor in tensors.items()}


def rename(name: str, rows: object) -> str:
    for pattern, theirs in rows:  # type: ignore[attr-defined]
        name = re.sub(pattern, theirs, name)
    return name
