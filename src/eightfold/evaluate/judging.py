"""Training the judge: renders whose truth is known, moved and softened a little, and one cycle of AdamW.

A step depends on the settings and its number alone, so a judge is the same whoever trains it, on one kind of machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ..checkpoints.save import write_safetensors
from ..codec.pixels import from_bytes
from ..core.progress import Progress
from ..core.rng import build_generator
from ..data.pictures import PictureConfig, draw_pictures, read_pictures
from ..data.scenes import draw_scene
from ..data.solids import COLOURS, SHAPES, Scene
from ..training.loop import seeded
from .judge import DEFAULT, OUTPUTS, JudgeConfig, JudgeNetwork, judge_path

SIZE = 64  # pixels of the training pictures: half of 128, as the network sees them
MOST = 3  # solids in a picture
REACH = 0.8  # cells: the spread of the target around a centre
NEAR = 0.3  # cells with this much of the target learn what the solid is
ZOOM = (0.6, 2.0)
MOVED, SOFTENED = 0.5, 0.5  # shares of a batch


@dataclass(frozen=True)
class Truth:
    """What is in each picture: for each of at most three solids the centre (-1..1, right and DOWN), logarithm of the distance, and kind."""

    place: Float[Tensor, "n 3 2"]
    distance: Float[Tensor, "n 3"]
    colour: Int[Tensor, "n 3"]
    shape: Int[Tensor, "n 3"]
    there: Bool[Tensor, "n 3"]

    def pick(self, chosen: Tensor) -> Truth:
        return Truth(self.place[chosen], self.distance[chosen], self.colour[chosen], self.shape[chosen], self.there[chosen])


def to_truth(scenes: Sequence[Scene]) -> Truth:
    """The truth of scenes of at most three solids."""
    colours: list[str] = [*COLOURS]
    shapes: list[str] = [*SHAPES]
    count = len(scenes)
    place, distance = torch.zeros(count, MOST, 2), torch.zeros(count, MOST)
    colour, shape = torch.zeros(count, MOST, dtype=torch.long), torch.zeros(count, MOST, dtype=torch.long)
    there = torch.zeros(count, MOST, dtype=torch.bool)
    for number, scene in enumerate(scenes):
        for slot, solid in enumerate(scene.solids):
            across, up, _ = scene.camera.to_frame(solid.x, solid.height, solid.z)
            place[number, slot] = torch.tensor([across, -up])
            distance[number, slot] = math.log(scene.camera.to_view(solid.x, solid.height, solid.z)[2])
            colour[number, slot], shape[number, slot] = colours.index(solid.colour), shapes.index(solid.shape)
            there[number, slot] = True
    return Truth(place, distance, colour, shape, there)


def train_judge(folder: Path, config: JudgeConfig = DEFAULT) -> Iterator[Progress]:
    """Draw pictures, train and write `judge-KEY.safetensors` into `folder`; nothing where it is there already.

    Two to four minutes of one core. Raises OutputError where `folder` cannot be written.
    """
    path = judge_path(folder, config)
    if path.exists():
        return
    drawn = PictureConfig(scenes=config.scenes, size=SIZE, seed=config.seed, counts=config.counts)
    yield from draw_pictures(drawn, folder)
    pixels = read_pictures(drawn, folder).pixels
    truth = to_truth([draw_scene(config.seed, number, counts=config.counts) for number in range(config.scenes)])
    with seeded(config.seed):
        network = JudgeNetwork(config.width)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.rate, betas=(0.9, 0.99), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.rate, config.steps + 1, pct_start=0.2)
    network.train()
    for step in range(config.steps):
        images, targets = draw_batch(pixels, truth, config, step)
        loss = judge_loss(network(images.contiguous(memory_format=torch.channels_last))[0], targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        yield Progress(task="judge", number=step + 1, total=config.steps, figures={"loss": loss.item()})
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_safetensors(path, weights, {"eightfold.judge": config.key}, overwrite=True)


def draw_batch(pixels: Tensor, truth: Truth, config: JudgeConfig, step: int) -> tuple[Tensor, Truth]:
    """The pictures of one step and what is in them: half of them zoomed and moved, half of them softened, with some noise."""
    generator = build_generator(config.seed, "judge", step)
    chosen = torch.randint(len(pixels), (config.batch,), generator=generator)
    images, targets = from_bytes(pixels[chosen]), truth.pick(chosen)
    count = config.batch
    moved = torch.rand(count, generator=generator) < MOVED
    low, high = (math.log(end) for end in ZOOM)
    zoom = torch.exp(low + (high - low) * torch.rand(count, generator=generator)) * moved + ~moved
    side = 1.0 - 2.0 * (torch.rand(count, generator=generator) < 0.5)
    shift = (torch.rand(count, 2, generator=generator) * 2 - 1) * 0.5 * moved[:, None]
    images, targets = move(images, targets, zoom, side, shift)
    soft = torch.rand(count, 1, 1, 1, generator=generator) * (torch.rand(count, 1, 1, 1, generator=generator) < SOFTENED)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = images + soft * (blurred - images)
    noise = torch.randn(images.shape, generator=generator) * 0.04 * torch.rand(count, 1, 1, 1, generator=generator)
    return images + noise, targets


def move(
    images: Float[Tensor, "b 3 h w"], truth: Truth, zoom: Float[Tensor, "b"], side: Float[Tensor, "b"], shift: Float[Tensor, "b 2"]
) -> tuple[Float[Tensor, "b 3 h w"], Truth]:
    """Pictures enlarged by `zoom`, mirrored where `side` is -1 and shifted, in half frames; the ground goes on beyond the edge.

    What is enlarged counts as nearer. Solids whose centre leaves the picture are no longer there.
    """
    scale = torch.stack([zoom * side, zoom], dim=1)
    place = truth.place * scale[:, None] + shift[:, None]
    # the affine matrix leads from the new picture to the old one
    matrix = torch.zeros(len(images), 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1] = 1 / scale[:, 0], 1 / scale[:, 1]
    matrix[:, :, 2] = -shift / scale
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    inside = place.abs().amax(dim=-1) < 1
    return moved, Truth(place, truth.distance - zoom.log()[:, None], truth.colour, truth.shape, truth.there & inside)


def judge_loss(cells: Float[Tensor, "b k h w"], truth: Truth) -> Float[Tensor, ""]:
    """Focal loss of objectness (arXiv 1904.07850, equation 1), cross entropy of colour and shape and L1 of the distance near centres."""
    height, width = cells.shape[-2:]
    size = torch.tensor([width, height])
    cell = ((truth.place + 1) / 2 * size).floor().clamp(min=torch.zeros(2), max=size - 1)
    rows = torch.arange(height)[:, None] - cell[:, :, 1, None, None]
    columns = torch.arange(width) - cell[:, :, 0, None, None]
    near = torch.exp(-(rows**2 + columns**2) / (2 * REACH**2)) * truth.there[:, :, None, None]
    heat, owner = near.max(dim=1)
    objectness, colour, shape, distance = cells.split(OUTPUTS, dim=1)
    sure, unsure = F.logsigmoid(objectness[:, 0]), F.logsigmoid(-objectness[:, 0])
    centre = heat == 1
    focal = torch.where(centre, unsure.exp() ** 2 * sure, (1 - heat) ** 4 * sure.exp() ** 2 * unsure)
    count = centre.sum().clamp(min=1)

    weight = heat * (heat > NEAR)
    weight = weight / weight.sum().clamp(min=1)

    def spread(values: Tensor) -> Tensor:
        """What is known of a picture's solids, for each of its cells."""
        return values.gather(1, owner.flatten(1)).view_as(owner)

    kinds = F.cross_entropy(colour, spread(truth.colour), reduction="none") + F.cross_entropy(shape, spread(truth.shape), reduction="none")
    far = (distance[:, 0] - spread(truth.distance)).abs()
    return -focal.sum() / count + (weight * (kinds + far)).sum()
