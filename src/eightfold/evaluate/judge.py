"""A judge of pictures of solids: where each is, and what colour and shape it has, told by a small network that only renders have trained.

Objects are points (arXiv 1904.07850): on a grid of one cell for 8x8 pixels the network says whether the centre of a solid lies in a cell,
and of which colour, shape and distance. It has no fixed size: a picture of 256x256 gives a grid of 32x32.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.load import load_module, read_tensors
from ..core.errors import CheckpointError, ConfigError
from ..core.versions import read_versions
from ..data.pictures import VERSION as RENDERER
from ..data.solids import COLOURS, SHAPES

VERSION = 1  # raise it when the same settings train another judge
THRESHOLD = 0.35  # least confidence of a finding
TOGETHER = 64  # pictures of 128x128 that are looked at in one go
OUTPUTS = (1, len(COLOURS), len(SHAPES), 1)  # objectness, colour, shape, logarithm of the distance


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """How a judge is made: `scenes` renders, of which `counts` are the shares with one, two and three solids, and one-cycle training."""

    scenes: int = 8192
    counts: tuple[float, float, float] = (0.5, 0.25, 0.25)
    seed: int = 211  # no training configuration and no measurement uses it
    width: int = 24
    steps: int = 1400
    batch: int = 32
    rate: float = 6e-3

    def __post_init__(self) -> None:
        if min(self.scenes, self.width, self.steps, self.batch) < 1:
            raise ConfigError(f"{self}: scenes, width, steps and batch are 1 or more", hint="the defaults make a good judge")

    @property
    def key(self) -> str:
        """A name for everything that a judge depends on."""
        return sha256(json.dumps([VERSION, RENDERER, read_versions()["torch"], asdict(self)]).encode()).hexdigest()[:12]


DEFAULT = JudgeConfig()


class Block(nn.Module):
    """Convolution, batch norm and ReLU; where the shape stays as it is, added to what came in."""

    def __init__(self, channels: int, out_channels: int, *, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, out_channels, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.adds = channels == out_channels and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm(self.convolution(x)))
        return x + out if self.adds else out


class JudgeNetwork(nn.Module):
    """Pictures of half the size to what each cell says, and to the deepest layer, from which features are pooled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(Block(3, width, size=5, stride=2), Block(width, 2 * width, stride=2), Block(2 * width, 2 * width))
        self.deep = nn.Sequential(Block(2 * width, 4 * width, stride=2), *(Block(4 * width, 4 * width) for _ in range(4)))
        self.lift = nn.Conv2d(4 * width, 2 * width, 1)
        self.join = nn.Sequential(Block(2 * width, 2 * width), Block(2 * width, 3 * width))
        self.head = nn.Conv2d(3 * width, sum(OUTPUTS), 1)
        nn.init.constant_(self.head.bias[:1], -4.0)  # type: ignore[index]  # nearly every cell is empty

    def forward(self, half: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b k h2 w2"], Float[Tensor, "b d h3 w3"]]:
        fine = self.fine(half)
        deep = self.deep(fine)
        lifted = F.interpolate(self.lift(deep), size=fine.shape[-2:], mode="bilinear")
        return self.head(self.join(fine + lifted)), deep


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained network; `key` names everything it depends on."""

    network: JudgeNetwork
    key: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One solid in a picture.

    `x` and `y` are the centre, -1..1 to the right and upwards; `depth` is its distance along the view, in units of length of a scene, as
    if the picture were a whole frame. `confidence` is the probability that a solid is there, `colours` and `shapes` those of its kind.
    """

    colour: str
    shape: str
    x: float
    y: float
    depth: float
    confidence: float
    colours: dict[str, float]
    shapes: dict[str, float]


def judge_path(folder: Path, config: JudgeConfig) -> Path:
    return folder / f"judge-{config.key}.safetensors"


def load_judge(folder: Path, config: JudgeConfig = DEFAULT) -> Judge:
    """The judge that `train_judge` wrote into `folder`. Raises CheckpointError where it is missing or damaged."""
    path = judge_path(folder, config)
    try:
        network = load_module(lambda: JudgeNetwork(config.width), read_tensors(path), source=str(path))
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be used: {error}", hint="remove it: a new judge is trained") from None
    return Judge(network, config.key)


def shrink(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h2 w2"]:
    """What the network sees: the mean of every 2x2 pixels."""
    return F.avg_pool2d(images, 2)


@torch.no_grad()
def look(judge: Judge, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n k h2 w2"], Float[Tensor, "n d"]]:
    """What each cell says, and the features of each picture, a few pictures at a time."""
    together = max(1, TOGETHER * 128 * 128 // (images.shape[-1] * images.shape[-2]))
    parts = [judge.network(shrink(part)) for part in images.split(together)]
    return torch.cat([cells for cells, _ in parts]), torch.cat([deep.mean(dim=(2, 3)) for _, deep in parts])


def features(judge: Judge, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
    """The judge's deepest layer, pooled over the picture: for the Fréchet distance. Images are in [-1, 1], sides 16 pixels or more."""
    return look(judge, images)[1]


def find_objects(judge: Judge, images: Float[Tensor, "n 3 h w"]) -> list[list[Finding]]:
    """The solids in each picture ([-1, 1], sides 16 pixels or more), most confident first.

    A solid is a cell that is surer of one than the eight around it, and sure enough.
    """
    cells, _ = look(judge, images)
    heat = cells[:, :1].sigmoid()
    peaks = (heat == F.max_pool2d(heat, 3, 1, 1)) & (heat > THRESHOLD)
    found: list[list[Finding]] = [[] for _ in images]
    for number, _, row, column in peaks.nonzero().tolist():
        found[number].append(to_finding(cells[number, :, row, column], row, column, cells.shape[-2:]))
    return [sorted(findings, key=lambda finding: -finding.confidence) for findings in found]


def to_finding(cell: Tensor, row: int, column: int, grid: torch.Size) -> Finding:
    objectness, colour, shape, distance = cell.split(OUTPUTS)
    colours = dict(zip(COLOURS, colour.softmax(0).tolist(), strict=True))
    shapes: dict[str, float] = dict(zip(SHAPES, shape.softmax(0).tolist(), strict=True))
    return Finding(
        colour=max(colours, key=lambda name: colours[name]),
        shape=max(shapes, key=lambda name: shapes[name]),
        x=(2 * column + 1) / grid[1] - 1,
        y=1 - (2 * row + 1) / grid[0],
        depth=distance.exp().item(),
        confidence=objectness.sigmoid().item(),
        colours=colours,
        shapes=shapes,
    )
