"""ControlNets in a request: which files, which pictures they are shown, and how these are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.filehash import hash_path
from ..codec.pixels import Picture, read_picture
from ..core.device import Placement
from ..core.errors import RequestError, UnknownName
from ..denoisers.control import ControlNet
from ..specs.family import Family
from .control import Control, check_times, find_control, load_control, to_hint, warn_of_controls, warn_of_stretch
from .preprocess import PREPROCESSORS, preprocess
from .request import Guide
from .start import resize

if TYPE_CHECKING:
    from .job import Leg

NUMBERS = {"weight", "start", "end"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A guide with its network and its picture. `made` keeps what was made of them, by size: the same for every picture of a request."""

    guide: Guide
    net: ControlNet
    picture: Picture
    made: dict[tuple[int, int, int], Control] = field(default_factory=dict[tuple[int, int, int], Control])

    def to_control(self, width: int, height: int, downscale: int) -> Control:
        """At work on pictures of this size: prepared after it has been resized, so that edges are as sharp as they can be."""
        size = (width, height, downscale)
        if size not in self.made:
            sized = replace(self.picture, image=resize(self.picture.image, width, height).clamp(-1, 1), alpha=None)
            hint = to_hint(preprocess(self.guide.prepare, sized), width, height, downscale)
            self.made[size] = Control(net=self.net, hint=hint, weight=self.guide.weight, start=self.guide.start, end=self.guide.end)
        return self.made[size]

    def to_record(self) -> dict[str, object]:
        """For the metadata of a picture: both files as they were named, with what they are known again by."""
        guide, shown = self.guide, self.picture.source
        picture = {"picture": shown, "picture_sha256": hash_path(shown) if shown and Path(shown).is_file() else ""}
        net = {"net": str(guide.net), "sha256": hash_path(guide.net)}
        return {**net, **picture, "weight": guide.weight, "start": guide.start, "end": guide.end, "prepare": guide.prepare}


def read_guides(guides: Sequence[Guide], family: Family) -> tuple[Guide, ...]:
    """The same with their pictures read, and everything looked at but the weights.

    Raises CheckpointError for a file that is no ControlNet for `family`, ImageError, UnknownName or RequestError.
    """
    found: list[Guide] = []
    for guide in guides:
        if guide.prepare not in PREPROCESSORS:
            raise UnknownName("preprocessor", guide.prepare, PREPROCESSORS)
        check_times(guide)
        find_control(guide.net, family)
        found.append(guide if isinstance(guide.picture, Picture) else replace(guide, picture=read_picture(guide.picture)))
    return tuple(found)


def load_guides(guides: Sequence[Guide], family: Family, placement: Placement) -> tuple[Loaded, ...]:
    """Raises CheckpointError, ImageError."""
    found: list[Loaded] = []
    for guide in guides:
        picture = guide.picture if isinstance(guide.picture, Picture) else read_picture(guide.picture)
        found.append(Loaded(guide=guide, net=load_control(guide.net, family=family, placement=placement), picture=picture))
    return tuple(found)


def warn_of_guides(loaded: Sequence[Loaded], leg: Leg) -> tuple[str, ...]:
    """What of them does nothing, or is not as it was drawn."""
    stretched = (text for one in loaded for text in warn_of_stretch(one.picture, leg.width, leg.height))
    return (*stretched, *warn_of_controls([one.guide for one in loaded], leg.moves))


def to_guide(text: str) -> Guide:
    """ "canny.safetensors=photo.png,weight=0.8,prepare=canny" as a guide. Raises RequestError."""
    hint = "--control canny.safetensors=photo.png,weight=0.8,start=0,end=0.5,prepare=canny"
    first, *others = text.split(",")
    net, equals, picture = first.partition("=")
    if not equals or not net or not picture:
        raise RequestError(f"{text!r} is not NET=PICTURE", hint=hint)
    settings: dict[str, Any] = {}
    for other in others:
        name, _, value = other.partition("=")
        if name.strip() not in {*NUMBERS, "prepare"}:
            raise RequestError(f"{text!r}: a control has no {name.strip()!r}", hint=hint)
        try:
            settings[name.strip()] = float(value) if name.strip() in NUMBERS else value.strip()
        except ValueError:
            raise RequestError(f"{text!r}: {name.strip()} is a number", hint=hint) from None
    return Guide(net=Path(net), picture=Path(picture), **settings)
