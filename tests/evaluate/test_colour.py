"""The rule knows the colours of renders; and the embedded model follows colour words by that rule."""

import pytest
import torch

import eightfold as ef
from eightfold.data.scenes import COLOURS, SHAPES, draw_scene, render
from eightfold.evaluate.colour import name_colour


def test_the_rule_is_right_on_renders():
    scenes = [draw_scene(11, index) for index in range(96)]
    images = render(scenes, 64).image
    right = [name_colour(image[None]) == scene.solids[0].colour for image, scene in zip(images, scenes, strict=True)]
    assert len({scene.solids[0].colour for scene in scenes}) == 8
    assert sum(right) >= 93


def test_no_colour_in_grey():
    assert name_colour(torch.zeros(1, 3, 32, 32)) is None
    assert name_colour(torch.randn(1, 1, 32, 32).expand(1, 3, 32, 32)) is None


@pytest.mark.parametrize("colour", COLOURS)
def test_the_plain_colour_is_named(colour):
    image = torch.zeros(1, 3, 16, 16)
    image[0, :, 4:12, 4:12] = torch.tensor(COLOURS[colour])[:, None, None] * 2 - 1
    assert name_colour(image) == colour


def test_the_pocket_model_follows_colour_words():
    """Five prompts for each of eight colours; at least 32 of the 40 pictures show the colour that was asked for."""
    model = ef.load("pocket", device="cpu")
    wrong = []
    for colour in COLOURS:
        for index in range(5):
            prompt = f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {SHAPES[index % len(SHAPES)]}"
            *_, last = model.generate(ef.Request(prompt=prompt, seed=100 + index))
            found = name_colour(last.images[0].image)
            if found != colour:
                wrong.append(f"{prompt} ({100 + index}): {found}")
    assert len(wrong) <= 8, wrong
