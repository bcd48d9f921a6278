"""Scenes are repeatable, legible, and what their captions say."""

from __future__ import annotations

import colorsys
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.core.errors import RequestError
from eightfold.data.captions import MATERIAL_WORDS, SHAPE_WORDS, SIZE_WORDS
from eightfold.data.raycast import render_together
from eightfold.data.scenes import CAPTION_WORDS, COLOURS, MATERIALS, SHAPES, SIZES, Scene, Solid, draw_scene, relate, render
from eightfold.data.solids import FAR
from eightfold.data.stage import Stage

COMPANY = (0.0, 0.5, 0.5)
WORDS = {"shape": SHAPE_WORDS, "size": SIZE_WORDS, "material": MATERIAL_WORDS}
KINDS_OF_WORD = {word: (kind, name) for kind, words in WORDS.items() for name, group in words.items() for word in group}
KINDS_OF_WORD |= {name: ("colour", name) for name in COLOURS}


def parse_caption(caption: str) -> list[dict[str, str]]:
    """What a caption says of each solid, in its order: a shape word ends the description of one."""
    described: list[dict[str, str]] = [{}]
    for word in caption.replace(",", "").split():
        if word in KINDS_OF_WORD:
            kind, name = KINDS_OF_WORD[word]
            described[-1][kind] = name
            if kind == "shape":
                described.append({})
    return described[:-1]


def find_solid(scene: Scene, said: dict[str, str]) -> Solid:
    (found,) = [solid for solid in scene.solids if (solid.colour, solid.shape) == (said["colour"], said["shape"])]
    return found


def to_hue(image: torch.Tensor, mask: torch.Tensor) -> tuple[float, float]:
    """Hue in degrees and saturation of the mean colour under a mask."""
    red, green, blue = ((image[:, mask].mean(dim=1) + 1) / 2).tolist()
    hue, saturation, _ = colorsys.rgb_to_hsv(red, green, blue)
    return hue * 360, saturation


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """A picture is made of many small steps, which several threads only slow down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def company() -> list[Scene]:
    return [draw_scene(5, index, counts=COMPANY) for index in range(400)]


def test_a_scene_depends_on_seed_and_index_only() -> None:
    first = [draw_scene(3, index, counts=COMPANY) for index in range(20)]
    again = [draw_scene(3, index, counts=COMPANY) for index in reversed(range(20))]
    assert first == again[::-1]
    assert len({json.dumps(asdict(scene)) for scene in first}) == 20
    assert draw_scene(4, 0, counts=COMPANY) != first[0]


def test_pictures_repeat_bit_for_bit_alone_and_in_company(company: list[Scene]) -> None:
    scenes = [draw_scene(3, 0), *company[:5]]
    batch = render(scenes, 64)
    for i, scene in enumerate(scenes):
        alone = render([scene], 64)
        assert torch.equal(alone.image[0], batch.image[i])
        assert torch.equal(alone.depth[0], batch.depth[i])
        assert torch.equal(alone.masks[0], batch.masks[i])
    assert len({picture.numpy().tobytes() for picture in batch.image}) == len(scenes)


def test_drawing_scenes_together_agrees_with_one_by_one(company: list[Scene]) -> None:
    scenes = [draw_scene(3, 0), *company[:6]]
    together = render_together(Stage.build(scenes, torch.device("cpu")), 64)
    plain = render(scenes, 64)
    # A ray along an edge may fall on the other side of it; everything else agrees.
    assert (together.image - plain.image).abs().mean() < 1e-5
    assert (together.masks == plain.masks).float().mean() > 0.9999


def test_shapes_and_ranges_of_a_rendering() -> None:
    result = render([draw_scene(1, 0), draw_scene(1, 1, counts=COMPANY)], 48)
    assert result.image.shape == (2, 3, 48, 48)
    assert result.depth.shape == (2, 1, 48, 48)
    assert result.masks.shape == (2, 3, 48, 48)
    assert result.image.dtype == torch.float32
    assert result.masks.dtype == torch.bool
    assert result.image.min() >= -1
    assert result.image.max() <= 1
    assert not result.masks[0, 1:].any()


def test_counts_follow_their_probabilities() -> None:
    assert all(len(draw_scene(1, index).solids) == 1 for index in range(50))
    found = Counter(len(draw_scene(1, index, counts=(0.5, 0.3, 0.2)).solids) for index in range(1000))
    assert [found[k] for k in (1, 2, 3)] == pytest.approx([500, 300, 200], abs=70)


def test_all_factors_occur_about_equally() -> None:
    solids = [draw_scene(2, index).solids[0] for index in range(1600)]
    for factor, names in (("colour", COLOURS), ("shape", SHAPES), ("size", SIZES), ("material", MATERIALS)):
        found = Counter(getattr(solid, factor) for solid in solids)
        assert set(found) == set(names)
        assert min(found.values()) > 0.7 * 1600 / len(names)


def test_excluded_pairs_never_occur(company: list[Scene]) -> None:
    unwanted = frozenset({("red", "cube"), ("blue", "sphere"), ("pink", "cone")})
    usual = {(solid.colour, solid.shape) for scene in company for solid in scene.solids}
    assert unwanted <= usual
    drawn = {(s.colour, s.shape) for index in range(400) for s in draw_scene(5, index, counts=COMPANY, exclude=unwanted).solids}
    assert drawn == usual - unwanted


def test_excluding_everything_is_refused() -> None:
    everything = frozenset((colour, shape) for colour in COLOURS for shape in SHAPES)
    with pytest.raises(RequestError, match="1 different solids wanted, 0 pairs"):
        draw_scene(1, 0, exclude=everything)


def test_solids_differ_and_do_not_touch(company: list[Scene]) -> None:
    for scene in company:
        assert len({(solid.colour, solid.shape) for solid in scene.solids}) == len(scene.solids)
        for i, first in enumerate(scene.solids):
            for second in scene.solids[:i]:
                assert math.hypot(first.x - second.x, first.z - second.z) > first.footprint + second.footprint


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]))
def test_captions_tell_the_factors(seed: int, index: int, counts: tuple[float, float, float]) -> None:
    scene = draw_scene(seed, index, counts=counts)
    assert scene.caption == scene.caption.lower().strip()
    assert set(scene.caption.replace(", ", " ").split()) <= set(CAPTION_WORDS)
    described = parse_caption(scene.caption)
    assert len(described) == len(scene.solids)
    assert {(said["colour"], said["shape"]) for said in described} == {(solid.colour, solid.shape) for solid in scene.solids}
    for said in described:
        solid = find_solid(scene, said)
        assert said.get("size", solid.size) == solid.size
        assert said.get("material", solid.material) == solid.material
    if "grey" in scene.caption.split():
        assert max(scene.ground.colour) - min(scene.ground.colour) < 0.03
        assert max(scene.ground.colour) < 0.8


def test_every_caption_word_is_used_and_details_only_sometimes() -> None:
    captions = [draw_scene(7, index, counts=(0.5, 0.3, 0.2)).caption for index in range(4000)]
    used = {word for caption in captions for word in caption.replace(",", "").split()}
    assert used == set(CAPTION_WORDS)
    assert tuple(sorted(set(CAPTION_WORDS))) == CAPTION_WORDS
    sized = sum(any(word in caption.split() for group in SIZE_WORDS.values() for word in group) for caption in captions)
    assert 0.2 < sized / len(captions) < 0.6


def test_relations_in_captions_are_true_on_the_picture() -> None:
    """Left and right by the middles of the masks, front and behind by the depth under them."""
    seen: Counter[str] = Counter()
    for index in range(250):
        scene = draw_scene(11, index, counts=(0.0, 0.8, 0.2))
        word = next((w for w in ("left of", "right of", "in front of", "behind", "between") if w in scene.caption), "")
        if not word:
            continue
        seen[word] += 1
        result = render([scene], 64)
        places: list[tuple[float, float]] = []
        for said in parse_caption(scene.caption):
            mask = result.masks[0, scene.solids.index(find_solid(scene, said))]
            places.append((mask.nonzero()[:, 1].float().mean().item(), result.depth[0, 0][mask].median().item()))
        first, rest = places[0], places[1:]
        if word == "between":
            assert min(p[0] for p in rest) + 4 < first[0] < max(p[0] for p in rest) - 4, scene.caption
        for other in rest if word != "between" else ():
            gap = {"left of": other[0] - first[0], "right of": first[0] - other[0], "in front of": other[1] - first[1]}
            assert gap.get(word, first[1] - other[1]) > (3 if word in ("left of", "right of") else 0.2), scene.caption
    assert min(seen[word] for word in ("left of", "right of", "in front of", "behind", "between")) >= 2


def test_relations_mirror_each_other(company: list[Scene]) -> None:
    opposite = {"left of": "right of", "right of": "left of", "in front of": "behind", "behind": "in front of"}
    for scene in company:
        first, second = scene.solids[:2]
        assert relate(second, first, scene.camera) == tuple(opposite[word] for word in relate(first, second, scene.camera))


def test_masks_are_apart_and_agree_with_depth(company: list[Scene]) -> None:
    scenes = company[:40]
    result = render(scenes, 64)
    assert result.masks.sum(dim=1).max() == 1
    assert torch.isfinite(result.depth).all()
    assert result.depth.min() > 0
    assert result.depth.max() <= FAR
    for i, scene in enumerate(scenes):
        for j, solid in enumerate(scene.solids):
            depth = result.depth[i, 0][result.masks[i, j]]
            middle = scene.camera.to_view(solid.x, solid.height, solid.z)[2]
            # Solids overlap at some pixels, and those hold the nearer one's depth.
            near = ((depth - middle).abs() <= solid.bound).float().mean()
            assert near > 0.93
            assert depth.median() < middle


def test_empty_ground_has_the_depth_of_the_plane() -> None:
    scene = draw_scene(1, 5)
    result = render([scene], 64)
    row, column = 62, 2
    assert not result.masks[0, :, row, column].any()
    forward = result.depth[0, 0, row, column].item()
    across, up = (column + 0.5) / 32 - 1, 1 - (row + 0.5) / 32
    right_axis, up_axis, forward_axis = scene.camera.axes()
    half = math.tan(math.radians(17.5))
    x, y = (across - scene.camera.shift[0]) * half, (up - scene.camera.shift[1]) * half
    height = scene.camera.origin()[1] + forward * (x * right_axis[1] + y * up_axis[1] + forward_axis[1])
    assert height == pytest.approx(0, abs=1e-4)


def test_lone_solids_are_large_and_inside_the_frame() -> None:
    scenes = [draw_scene(9, index) for index in range(150)]
    masks = render(scenes, 128).masks[:, 0]
    border = masks.clone()
    border[:, 1:-1, 1:-1] = False
    assert not border.any()
    ranges = {"small": (35, 46), "medium": (50, 65), "large": (71, 90)}
    for scene, mask in zip(scenes, masks, strict=True):
        low, high = ranges[scene.solids[0].size]
        assert low < math.sqrt(4 / math.pi * mask.sum().item()) < high
        places = mask.nonzero().float()
        middle = (places.amin(dim=0) + places.amax(dim=0)) / 2
        assert ((middle - 64).abs() < 16).all()


def test_solids_in_company_are_inside_the_frame_and_mostly_visible(company: list[Scene]) -> None:
    scenes = company[:60]
    masks = render(scenes, 64).masks
    border = masks.clone()
    border[:, :, 1:-1, 1:-1] = False
    assert not border.any()
    for scene, seen in zip(scenes, masks, strict=True):
        for j, solid in enumerate(scene.solids):
            whole = render([replace(scene, solids=(solid,))], 64).masks[0, 0].sum()
            assert seen[j].sum() > 0.65 * whole


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_solid_shows_the_hue_of_its_colour(colour: str, material: str) -> None:
    bases = {name: colorsys.rgb_to_hsv(*base)[0] * 360 for name, base in COLOURS.items()}
    scenes: list[Scene] = []
    for index, shape in enumerate(SHAPES * 2):
        scene = draw_scene(13, index)
        scenes.append(replace(scene, solids=(replace(scene.solids[0], colour=colour, material=material, shape=shape),)))
    result = render(scenes, 48)
    for i in range(len(scenes)):
        hue, saturation = to_hue(result.image[i], result.masks[i, 0])
        gaps = {name: abs((hue - base + 180) % 360 - 180) for name, base in bases.items()}
        assert min(gaps, key=lambda name: gaps[name]) == colour
        assert gaps[colour] < 12
        assert saturation > 0.3


def test_colours_are_well_apart() -> None:
    hues = sorted(colorsys.rgb_to_hsv(*base)[0] * 360 for base in COLOURS.values())
    gaps = [(after - before) % 360 for before, after in zip(hues, [*hues[1:], hues[0]], strict=True)]
    assert min(gaps) > 24


def test_ground_is_nearly_grey() -> None:
    scenes = [draw_scene(15, index) for index in range(40)]
    result = render(scenes, 48)
    for image, masks in zip(result.image, result.masks, strict=True):
        assert to_hue(image, ~masks.any(dim=0))[1] < 0.2


def test_a_shiny_solid_has_highlights_and_a_matte_one_none() -> None:
    for index in range(8):
        scene = draw_scene(17, index)
        pair = [replace(scene, solids=(replace(scene.solids[0], material=m, shape="sphere", colour="blue"),)) for m in MATERIALS]
        result = render(pair, 64)
        mask = result.masks[0, 0]
        red = [image[0, mask] for image in result.image]
        assert red[1].max() > red[0].max() + 0.3


def test_a_shadow_falls_away_from_the_lamp() -> None:
    """The plane is darker on the far side of the solid than towards the lamp."""
    checked = 0
    for index in range(20):
        scene = draw_scene(19, index)
        solid, camera = scene.solids[0], scene.camera
        picture = render([scene], 96)
        levels: list[float] = []
        for side in (1.2, -1.2):
            reach = side * solid.radius
            x, _, z = scene.light.direction()
            flat = math.hypot(x, z)
            across, up, _ = camera.to_frame(solid.x + reach * x / flat, 0.0, solid.z + reach * z / flat)
            row, column = int((1 - up) * 48), int((1 + across) * 48)
            if 0 <= row < 96 and 0 <= column < 96 and not picture.masks[0, 0, row, column]:
                levels.append(picture.image[0, :, row, column].mean().item())
        if len(levels) == 2:
            checked += 1
            assert levels[0] > levels[1]
    assert checked >= 5
