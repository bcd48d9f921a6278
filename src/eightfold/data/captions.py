"""Captions of scenes: short true phrases from a closed list of words.

Every solid that is named keeps its colour and its shape; size and material are told only sometimes. A caption says left, right,
front or behind only where the camera sees it clearly so.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from .solids import COLOURS, Camera, Ground, Solid

SHAPE_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "sphere": ("sphere", "ball"),
    "cube": ("cube", "box"),
    "cylinder": ("cylinder", "can", "tube"),
    "cone": ("cone",),
}
SIZE_WORDS: Final[dict[str, tuple[str, ...]]] = {"small": ("small", "tiny"), "medium": ("medium",), "large": ("large", "big")}
MATERIAL_WORDS: Final[dict[str, tuple[str, ...]]] = {"matte": ("matte", "dull"), "shiny": ("shiny", "glossy")}
PICTURE_WORDS: Final = ("picture", "image", "photo", "render")
_PLACES: Final = ("on the ground", "on the floor", "on a plain background", "on a plain floor")
_GREY_PLACES: Final = ("on a grey background", "on a plain grey background", "on the grey floor", "on the grey ground")
_GLUE: Final = (
    *("a", "an", "the", "of", "on", "and", "with", "to", "in", "is", "there", "are", "two", "three"),
    *("next", "beside", "left", "right", "front", "behind", "between"),
    *("object", "objects", "scene", "ground", "floor", "background", "plain", "grey"),
)

CAPTION_WORDS: Final[tuple[str, ...]] = tuple(
    sorted(
        {*_GLUE, *PICTURE_WORDS, *COLOURS}
        | {word for words in (SHAPE_WORDS, SIZE_WORDS, MATERIAL_WORDS) for group in words.values() for word in group}
    )
)
"""Every word a caption may use, sorted."""

# Grey may be said of a ground whose channels differ by less than the one and which is no brighter than the other.
_GREY_SPREAD: Final = 0.03
_GREY_BRIGHTEST: Final = 0.78


def relate(first: Solid, second: Solid, camera: Camera) -> tuple[str, ...]:
    """The relations of `first` to `second` that are clear in the camera's view: `left of`, `right of`, `in front of`, `behind`.

    Sideways needs the centres apart by 0.8 of the mean footprint diameter, in depth by 0.9 of it; a relation also needs its own
    distance to be at least half of the other one's, so that nothing far behind is called left.
    """
    a = camera.to_view(first.x, first.height, first.z)
    b = camera.to_view(second.x, second.height, second.z)
    a_frame = camera.to_frame(first.x, first.height, first.z)[0]
    b_frame = camera.to_frame(second.x, second.height, second.z)[0]
    reach = first.footprint + second.footprint
    aside, deeper = a[0] - b[0], a[2] - b[2]
    found: list[str] = []
    if abs(aside) > 0.8 * reach and abs(aside) > 0.5 * abs(deeper) and abs(a_frame - b_frame) > 0.2 and (a_frame > b_frame) == (aside > 0):
        found.append("right of" if aside > 0 else "left of")
    if abs(deeper) > 0.9 * reach and abs(deeper) > 0.5 * abs(aside):
        found.append("behind" if deeper > 0 else "in front of")
    return tuple(found)


def compose_caption(rng: random.Random, solids: Sequence[Solid], camera: Camera, ground: Ground) -> str:
    """One caption, in lower case, of a scene of one to three solids. Consumes `rng`."""
    # The camera steps back for company, so a size is told only beside another size.
    sizes_differ = len(solids) == 1 or len({solid.size for solid in solids}) > 1
    detail = 0.4 if len(solids) == 1 else 0.2
    names = {solid: _name(rng, solid, detail if sizes_differ else 0.0, detail) for solid in solids}
    if len(solids) == 1:
        return _compose_one(rng, names[solids[0]], ground)
    order = rng.sample(list(solids), len(solids))
    if len(solids) == 2:
        return _frame(rng, _compose_two(rng, order[0], order[1], names, camera), "two", ground)
    return _frame(rng, _compose_three(rng, order, names, camera), "three", ground)


def _name(rng: random.Random, solid: Solid, size_chance: float, material_chance: float) -> str:
    words: list[str] = []
    if rng.random() < size_chance:
        words.append(rng.choice(SIZE_WORDS[solid.size]))
    if rng.random() < material_chance:
        words.append(rng.choice(MATERIAL_WORDS[solid.material]))
    shapes = SHAPE_WORDS[solid.shape]
    shape = shapes[0] if rng.random() < 0.7 else rng.choice(shapes)
    return " ".join([*words, solid.colour, shape])


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _compose_one(rng: random.Random, name: str, ground: Ground) -> str:
    picture = rng.choice(PICTURE_WORDS)
    thing = _with_article(name)
    phrase = rng.choices(
        (
            thing,
            name,
            f"{_with_article(picture)} of {thing}",
            f"the {picture} of {thing}",
            f"a scene with {thing}",
            f"there is {thing}",
            f"the {name}",
            f"the object is {thing}",
        ),
        weights=(8, 3, 3, 0.5, 0.7, 1, 0.5, 0.3),
    )[0]
    return f"{phrase} {_place(rng, ground)}" if rng.random() < 0.25 else phrase


def _compose_two(rng: random.Random, first: Solid, second: Solid, names: dict[Solid, str], camera: Camera) -> str:
    clear = relate(first, second, camera)
    a, b = _with_article(names[first]), _with_article(names[second])
    if clear and rng.random() < 0.7:
        relation = rng.choice(clear)
        if relation in ("left of", "right of") and rng.random() < 0.3:
            relation = f"to the {relation}"
        return f"{a} {relation} {b}"
    aside = any(word in ("left of", "right of") for word in clear)
    return f"{a} {rng.choice(('and', 'and', 'next to', 'beside') if aside else ('and', 'with'))} {b}"


def _compose_three(rng: random.Random, order: Sequence[Solid], names: dict[Solid, str], camera: Camera) -> str:
    if rng.random() < 0.3:
        left, middle, right = sorted(order, key=lambda solid: camera.to_frame(solid.x, solid.height, solid.z)[0])
        if "left of" in relate(left, middle, camera) and "right of" in relate(right, middle, camera):
            ends = [left, right] if rng.random() < 0.5 else [right, left]
            near, far = (_with_article(names[solid]) for solid in ends)
            return f"{_with_article(names[middle])} between {near} and {far}"
    a, b, c = (_with_article(names[solid]) for solid in order)
    # "a left of b and c" can be read as left of both, so it must be.
    shared = [word for word in relate(order[0], order[1], camera) if word in relate(order[0], order[2], camera)]
    if shared and rng.random() < 0.5:
        return f"{a} {rng.choice(shared)} {b} and {c}"
    return f"{a}, {b} and {c}"


def _frame(rng: random.Random, phrase: str, count: str, ground: Ground) -> str:
    """Puts a phrase about several solids into a sentence, or leaves it as it is."""
    picture = rng.choice(PICTURE_WORDS)
    listed = not any(word in phrase for word in (" of ", "behind", "between", "next", "beside", "with"))
    choices = [(phrase, 8.0), (f"{_with_article(picture)} of {phrase}", 2.0), (f"a scene with {phrase}", 0.7)]
    if listed and "front" not in phrase:
        choices += [(f"there are {count} objects, {phrase}", 0.7), (f"{count} objects, {phrase}", 0.5)]
    phrase = rng.choices([text for text, _ in choices], weights=[weight for _, weight in choices])[0]
    return f"{phrase} {_place(rng, ground)}" if rng.random() < 0.1 else phrase


def _place(rng: random.Random, ground: Ground) -> str:
    colours = (ground.colour, ground.background)
    grey = all(max(colour) - min(colour) < _GREY_SPREAD and max(colour) < _GREY_BRIGHTEST for colour in colours)
    return rng.choice(_PLACES + _GREY_PLACES if grey else _PLACES)
