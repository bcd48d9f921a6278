"""Pictures that begin from pictures: what is kept is kept to the bit, and the rest is denoised from where the strength says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from eightfold.codec.pixels import Picture, read_picture, write_picture
from eightfold.core.errors import RequestError
from eightfold.core.rng import build_generator, draw_noise
from eightfold.diffusion.grid import build_grid
from eightfold.diffusion.predict import add_noise
from eightfold.diffusion.samplers import SAMPLERS
from eightfold.pipelines.bundle import Model
from eightfold.pipelines.generate import GenerationStep
from eightfold.pipelines.request import Request, to_room
from eightfold.pipelines.start import AROUND, Box, add_room, count_moves, find_box, fit, mirror, soften, to_cells

CUBE = Request(prompt="a red cube", steps=2)
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def finish(model: Model, request: Request) -> GenerationStep:
    *_, last = model.generate(request)
    return last


def draw(width: int, height: int, seed: int = 0, channels: int = 3) -> Tensor:
    """Numbers that a file of bytes keeps."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, channels, height, width), generator=random) / 127.5 - 1


def draw_mask(width: int, height: int, seed: int) -> Tensor:
    """0 and 1 in blocks, and something between in one corner; never 0 everywhere."""
    random = torch.Generator().manual_seed(seed)
    blocks = torch.rand(1, 1, -(-height // 5), -(-width // 5), generator=random) < 0.4
    mask = F.interpolate(blocks.float(), scale_factor=5)[..., :height, :width]
    mask[..., 0, 0] = 0.5
    return mask


def to_picture(mask: Tensor) -> Picture:
    return Picture((mask * 2 - 1).expand(-1, 3, -1, -1))


@pytest.mark.parametrize("seed", range(20))
def test_outside_the_mask_the_file_stays_as_it_was(model: Model, tmp_path: Path, seed: int) -> None:
    """PNG in, PNG out, alpha included, at any size."""
    random = torch.Generator().manual_seed(seed)
    width, height = (int(torch.randint(1, 90, (), generator=random)) for _ in range(2))
    alpha = (draw(width, height, seed + 50, channels=1) + 1) / 2 if seed % 2 else None
    mask = draw_mask(width, height, seed)
    write_picture(tmp_path / "start.png", draw(width, height, seed), alpha=alpha)
    write_picture(tmp_path / "mask.png", to_picture(mask).image)
    request = replace(CUBE, start=tmp_path / "start.png", mask=tmp_path / "mask.png", feather=seed % 4, only_masked=seed % 3 == 0)
    finish(model, request).images[0].save(tmp_path / "out.png")
    before, after = read_picture(tmp_path / "start.png"), read_picture(tmp_path / "out.png")
    kept = (mask == 0).expand_as(before.image)
    assert torch.equal(before.image[kept], after.image[kept])
    assert not torch.equal(before.image, after.image)
    assert (alpha is None) == (after.alpha is None) and (alpha is None or torch.equal(before.alpha, after.alpha))  # type: ignore[arg-type]


def test_raw_is_the_plain_decode(model: Model) -> None:
    mask = draw_mask(40, 24, 1)
    request = replace(CUBE, start=Picture(draw(40, 24)), mask=to_picture(mask))
    pasted, raw = (finish(model, replace(request, raw=raw)).images[0].image for raw in (False, True))
    inside = (mask == 1).expand_as(raw)
    assert torch.equal(pasted[inside], raw[inside])
    assert not torch.equal(pasted[~inside], raw[~inside])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_kept_is_the_picture_with_noise_at_every_step(model: Model, sampler: str) -> None:
    """In the latent too, whatever the sampler: exactly the picture's own latent with some noise, and at the end with none."""
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    picture = Picture(draw(32, 32))
    own = model.codec.normalise(model.codec.encode_start(picture, seed=0).raw)
    steps = list(model.generate(replace(CUBE, start=picture, mask=to_picture(mask), sampler=sampler, steps=4)))
    kept = to_cells(mask, 8).expand_as(own) == 0
    assert kept.sum() == own.numel() / 2
    for step in steps:
        assert torch.allclose(step.clean[kept], own[kept])
    assert torch.allclose(steps[-1].noisy[kept], own[kept], atol=1e-5)


@pytest.mark.parametrize(("strength", "moves"), [(0.5, 2), (0.75, 3), (0.99, 3), (1.0, 4)])
def test_strength_is_the_share_of_the_steps(model: Model, strength: float, moves: int) -> None:
    picture, process = Picture(draw(32, 24)), model.family.process
    steps = list(model.generate(replace(CUBE, start=picture, strength=strength, steps=4, seed=3, sampler="euler")))
    assert len(steps) == steps[0].total == moves
    times = build_grid(steps[0].job.plan.grid, process, 4)[-moves - 1 :]
    assert steps[0].moment.t == times[0]
    own = model.codec.normalise(model.codec.encode_start(picture, seed=3).raw)
    noise = draw_noise(tuple(own.shape), build_generator(3))
    begun = noise if strength == 1 else add_noise(own, noise, process.alpha(times[0]), process.sigma(times[0]))
    ratio = process.sigma(times[1]) / process.sigma(times[0])  # Euler's move, with the noise that the first state implies
    expected = process.alpha(times[1]) * steps[0].clean + ratio * (begun - process.alpha(times[0]) * steps[0].clean)
    assert torch.allclose(steps[0].noisy, expected, atol=1e-5)


def test_more_strength_leaves_less_of_the_picture(model: Model) -> None:
    picture = Picture(draw(32, 32))
    found = [finish(model, replace(CUBE, start=picture, strength=strength, steps=10)).images[0].image for strength in (0.1, 0.5, 1.0)]
    again = model.codec.decode(model.codec.encode(picture)).image
    distances = [float((image - again).abs().mean()) for image in found]
    assert distances == sorted(distances) and distances[0] < distances[2] / 2


def test_a_picture_of_several_is_the_one_made_alone(model: Model) -> None:
    request = replace(CUBE, start=Picture(draw(24, 24)), mask=to_picture(draw_mask(24, 24, 2)), seed=4)
    together = finish(model, replace(request, count=2)).images
    alone = [finish(model, replace(request, seed=seed)).images[0] for seed in (4, 5)]
    assert all(torch.equal(one.image, other.image) for one, other in zip(together, alone, strict=True))


def test_room_is_added_around_the_picture(model: Model) -> None:
    picture = Picture(draw(32, 24), alpha=torch.full((1, 1, 24, 32), 0.4))
    found = finish(model, replace(CUBE, start=picture, outpaint=(8, 0, 3, 5))).images[0]
    assert (found.width, found.height) == (43, 29)
    assert torch.equal(found.image[..., :24, 8:40], picture.image)
    assert found.alpha is not None and torch.equal(found.alpha[..., :24, 8:40], picture.alpha)  # type: ignore[arg-type]
    assert bool((found.alpha[..., 24:, :] == 1).all())


def test_only_what_is_masked_is_drawn_at_the_models_own_size(model: Model) -> None:
    mask = torch.zeros(1, 1, 300, 400)
    mask[..., 100:140, 150:300] = 1
    steps = list(model.generate(replace(CUBE, start=Picture(draw(400, 300)), mask=to_picture(mask), only_masked=True)))
    plan = steps[0].job.plan
    assert (plan.width, plan.height) == (192, 96)  # what is masked with 32 pixels around it is 214x104, and the model's own size 128x128
    found = steps[-1].images[0].image
    assert found.shape == (1, 3, 300, 400)
    assert not torch.equal(found[..., 100:140, 150:300], draw(400, 300)[..., 100:140, 150:300])


def test_a_size_of_its_own(model: Model) -> None:
    """A picture to begin from is scaled to the size that is asked for, unless there is something in it to be kept."""
    request = replace(CUBE, start=Picture(draw(32, 24)), size=(48, 40))
    found = finish(model, replace(request, raw=True)).images[0]
    assert (found.width, found.height) == (48, 40)
    with pytest.raises(RequestError, match="48x40 with a mask: the picture is 32x24"):
        model.generate(replace(request, mask=to_picture(draw_mask(32, 24, 0))))


def test_two_passes(model: Model) -> None:
    """The second begins from the first's picture, enlarged, with noise of its own from the same stream."""
    steps = list(model.generate(replace(CUBE, size=(64, 48), steps=4, enlarge=2.0, enlarge_strength=0.5, seed=3, count=2)))
    assert [step.number for step in steps] == list(range(1, 13)) and steps[0].total == 12
    assert [tuple(step.noisy.shape[-2:]) for step in steps[:6]] == [(3, 4)] * 4 + [(6, 8)] * 2
    assert [(step.is_first, step.is_last) for step in steps[:7]] == [(True, False), *[(False, False)] * 4, (False, True), (True, False)]
    assert [(picture.width, picture.height) for picture in steps[-1].images] == [(64, 48)] * 2
    assert (steps[1].decode().width, steps[5].decode().width) == (32, 64)
    small = finish(model, replace(CUBE, size=(32, 24), steps=4, seed=3)).images[0]
    assert torch.equal(steps[3].decode().image, small.image)
    alone = finish(model, replace(CUBE, size=(64, 48), steps=4, enlarge=2.0, enlarge_strength=0.5, seed=4))
    assert torch.equal(alone.images[0].image, steps[-1].images[1].image)


def test_a_size_that_doubles_objects_is_told(model: Model) -> None:
    sizes: dict[tuple[int, int], float] = {(136, 136): 1, (128, 256): 1, (136, 144): 1, (256, 256): 2}
    found = [
        finish(model, replace(CUBE, size=size, steps=1, enlarge=by, enlarge_strength=1)).images[0].warnings for size, by in sizes.items()
    ]
    assert [bool(one) for one in found] == [True, False, True, False]
    assert "136x144 is larger than the 128x128 that pocket is at home at" in found[2][0] and "--enlarge 1.1" in found[2][0]


def test_a_network_that_is_shown_a_mask(model: Model) -> None:
    """It is shown what is masked, with the rest of the picture, and keeps the rest by itself."""
    family = replace(model.family, reads=("mask", "covered"))
    seen: list[Tensor] = []

    def look(noisy: Tensor, timestep: Tensor, tokens: Tensor, vector: Tensor | None, added: object) -> Tensor:
        seen.append(noisy)
        return noisy[:, :4]

    told = replace(model, family=family, denoiser=look)  # type: ignore[arg-type]
    picture, mask = Picture(draw(16, 16)), torch.zeros(1, 1, 16, 16)
    mask[..., 8:, :8] = 1
    steps = list(told.generate(replace(CUBE, start=picture, mask=to_picture(mask), guidance=1.0)))
    assert len(steps) == 2  # from noise alone, unless a strength is asked for
    assert seen[0].shape == (1, 9, 2, 2)
    assert seen[0][:, 4:5].flatten().tolist() == [0, 0, 1, 0]
    grey = model.codec.encode_start(torch.where(mask < 0.5, picture.image, 0.0), seed=0)
    assert torch.equal(seen[0][:, 5:], model.codec.normalise(grey.raw))
    assert torch.equal(steps[-1].images[0].image[..., :8, :], picture.image[..., :8, :])
    for request, what in ((CUBE, "a picture"), (replace(CUBE, start=picture), "a mask")):
        with pytest.raises(RequestError, match=f"that is shown {what}"):
            told.generate(request)


def test_variations(model: Model) -> None:
    found = [
        finish(model, replace(CUBE, size=(32, 32), seed=1, variation_seed=2, variation=share)).images[0].image for share in (0.0, 0.1, 1.0)
    ]
    plain = [finish(model, replace(CUBE, size=(32, 32), seed=seed)).images[0].image for seed in (1, 2)]
    assert torch.equal(found[0], plain[0]) and torch.allclose(found[2], plain[1], atol=1e-5)
    assert 0 < (found[1] - plain[0]).abs().mean() < (plain[1] - plain[0]).abs().mean()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": "m"}, "a mask was asked for, and there is no picture"),
        ({"strength": 0.5}, "a strength was asked for"),
        ({"outpaint": (1, 0, 0, 0)}, "outpainting was asked for"),
        ({"only_masked": True}, "only what is masked was asked for"),
        ({"feather": 3}, "a feather was asked for"),
        ({"start": Picture(draw(8, 8)), "strength": 0.0}, "strength 0.0: expected more than 0"),
        ({"start": Picture(draw(8, 8)), "strength": 1.1}, "strength 1.1"),
        ({"start": Picture(draw(8, 8)), "strength": 0.4}, "less than one step"),
        ({"start": Picture(draw(8, 8)), "mask": Picture(draw(8, 9))}, "the mask is 8x9, the picture 8x8"),
        ({"start": Picture(draw(8, 8)), "mask": Picture(torch.full((1, 3, 8, 8), -1.0))}, "black everywhere"),
        ({"start": Picture(draw(8, 8)), "only_masked": True}, "there is no mask"),
        ({"enlarge": 2.0, "enlarge_strength": 0.1}, "less than one step"),
        ({"start": Picture(draw(8, 8)), "outpaint": (0, 0, 20_000, 0)}, "a picture of 20008x8"),
        ({"start": Picture(draw(8, 8)), "outpaint": (-1, 0, 0, 0)}, "outpaint -1,0,0,0"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(model: Model, changes: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        model.generate(replace(CUBE, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{"variation": 1.5}, {"variation": -0.1}, {"feather": -1}, {"feather": 10_000}, {"variation_seed": -1}, {"enlarge": 0.5}]
)
def test_numbers_that_cannot_be(changes: dict[str, float]) -> None:
    with pytest.raises(RequestError):
        replace(CUBE, **changes)  # type: ignore[arg-type]


@given(size=SIZES, seed=st.integers(0, 99), feather=st.integers(0, 6))
def test_a_soft_mask_stays_inside(size: tuple[int, int], seed: int, feather: int) -> None:
    mask = draw_mask(*size, seed)
    soft = soften(mask, feather)
    assert bool((soft <= mask + 1e-6).all()) and bool(((soft > 0) == (mask > 0)).all())
    assert torch.equal(soften(torch.ones_like(mask), feather), torch.ones_like(mask))  # an edge of the picture is none of the mask's


def test_a_soft_mask_rises_by_one_part_a_pixel() -> None:
    mask = torch.zeros(1, 1, 1, 9)
    mask[..., 2:] = 1
    assert soften(mask, 3)[0, 0, 0].tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1]


@settings(max_examples=30)
@given(size=SIZES, room=st.tuples(*[st.integers(0, 30)] * 4))
def test_room_mirrors_the_picture(size: tuple[int, int], room: tuple[int, int, int, int]) -> None:
    picture = Picture(draw(*size))
    wide, mask = add_room(picture, None, room)
    left, top, right, bottom = room
    assert (wide.width, wide.height) == (size[0] + left + right, size[1] + top + bottom)
    inside = Box(left, top, left + size[0], top + size[1])
    assert torch.equal(inside.cut(wide.image), picture.image)
    assert not inside.cut(mask).any() and mask.sum() == mask.numel() - size[0] * size[1]
    assert mirror(4, 2, 3).tolist() == [2, 1, 0, 1, 2, 3, 2, 1, 0]


@given(size=SIZES, seed=st.integers(0, 99), downscale=st.sampled_from([1, 8, 16]))
def test_cells_hold_all_that_is_masked(size: tuple[int, int], seed: int, downscale: int) -> None:
    mask = draw_mask(*size, seed)
    cells = to_cells(mask, downscale)
    assert cells.shape[-2:] == (-(-size[1] // downscale), -(-size[0] // downscale))
    wide = cells.repeat_interleave(downscale, -1).repeat_interleave(downscale, -2)[..., : size[1], : size[0]]
    assert bool((wide >= mask).all())


@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)), seed=st.integers(0, 99))
def test_the_box_holds_all_that_is_masked(size: tuple[int, int], seed: int) -> None:
    mask = draw_mask(*size, seed)
    box = find_box(mask, AROUND)
    assert box.cut(mask).sum() == mask.sum()
    assert 0 <= box.left < box.right <= size[0] and 0 <= box.top < box.bottom <= size[1]
    width, height = fit(box, (512, 512), 64)
    assert width % 64 == height % 64 == 0 and width >= 64 and height >= 64


def test_moves() -> None:
    assert [count_moves(20, strength) for strength in (0.05, 0.3, 0.75, 1.0)] == [1, 6, 15, 20]
    assert count_moves(10, 0.7) == 7  # which is 6.999999 in binary


def test_room_as_text() -> None:
    assert to_room("64,0, 12,3") == (64, 0, 12, 3)
    for text in ("64", "1,2,3", "a,b,c,d", "-1,0,0,0", "1,2,3,4,5"):
        with pytest.raises(RequestError, match="LEFT,TOP,RIGHT,BOTTOM"):
            to_room(text)
