"""eightfold walk: from one picture or prompt to another through latent space."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import RequestError
from ..core.versions import read_versions
from .console import Outcome, show_loading, show_warnings, track
from .options import ANIMATIONS, Choice, Naming, Output, Whole, to_placement, to_slug, to_text
from .sampling import Sampling
from .transcode import load_codec

LOOKS_LIKE_FILE = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


def walk(
    start: str,
    end: str,
    /,
    *,
    frames: Whole = 16,
    milliseconds: Whole = 100,
    sampling: Sampling = Sampling(),
    choice: Choice = Choice(),
    naming: Naming = Naming(),
    output: Output = Output(),
) -> int:
    """From one picture or prompt to another, as an animation: through latent space on the left, pixel cross-fade on the right.

    Parameters
    ----------
    start
        A picture file or a prompt.
    end
        Likewise.
    frames
        Frames from start to end; the animation goes there and back.
    milliseconds
        How long a frame is shown.
    """
    pictures = are_pictures(start, end)
    check_options(milliseconds, sampling, naming, pictures=pictures)
    names = [Path(text).stem if pictures else to_slug(text, 30) for text in (start, end)]
    (path,) = output.to_paths([f"{'-to-'.join(names)}.webp"], ANIMATIONS)
    requests = [sampling.to_request("" if pictures else text) for text in (start, end)]
    from ..pipelines.request import to_plan
    from ..pipelines.walk import to_pairs, to_shares, walk_images, walk_prompts

    to_shares(frames)
    record: dict[str, Any] = {"walk": [start, end], "frames": frames, **read_versions()}
    if pictures:
        codec = load_codec(choice, naming)
        record |= {"space": codec.space.name, "encoder": codec.encoder_fingerprint, "decoder": codec.decoder_fingerprint}
        run, placed = walk_images(codec, start, end, frames), to_placement(codec)
    else:
        with show_loading(choice.model):
            model = choice.load()
            show_warnings(model.warnings)
        record |= {**asdict(to_plan(requests[0], model.family)), "model": model.family.name, "fingerprint": model.fingerprint}
        run, placed = walk_prompts(model, requests[0], requests[1], frames), to_placement(model.placement)
    found = list(track("walk", run, frames))
    from ..codec.pixels import write_animation

    pairs, notes = to_pairs(found), [*dict.fromkeys(note for frame in found for note in frame.notes)]
    metadata = {"eightfold": json.dumps({**record, **placed, "notes": notes})}
    write_animation(path, [*pairs, *pairs[-2:0:-1]], milliseconds=milliseconds, metadata=metadata, overwrite=output.overwrite)
    outcome = Outcome()
    result = {"start": start, "end": end, "frames": frames, "path": str(path), "notes": notes, **placed}
    outcome.add(result, f"{path}{to_text(notes)}", as_json=output.json)
    return outcome.finish(as_json=output.json, reason=placed["placement"])


def check_options(milliseconds: int, sampling: Sampling, naming: Naming, *, pictures: bool) -> None:
    """Raise a RequestError for options that cannot be, or that mean nothing between pictures or between prompts."""
    if not 1 <= milliseconds <= 60_000:
        raise RequestError(f"--milliseconds {milliseconds}: expected 1 to 60000", hint="--milliseconds 100")
    if sampling.count not in (None, 1):
        raise RequestError(f"--count {sampling.count}: a walk is one animation", hint="leave --count out; --frames 32 makes it longer")
    if pictures and sampling != Sampling():
        raise RequestError("options of sampling are for prompts, and these are pictures", hint="leave --seed, --steps and the like out")
    if not pictures and naming != Naming():
        raise RequestError("--space is for pictures; prompts are drawn in their model's own space", hint="leave --space out")


def are_pictures(start: str, end: str) -> bool:
    """Whether both are files, or named like files: then what is missing is a file, not a word."""
    # not Path.is_file, which raises where a prompt is too long for a name
    files = [os.path.isfile(text) or text.lower().endswith(LOOKS_LIKE_FILE) for text in (start, end)]  # noqa: PTH113
    if files[0] != files[1]:
        prompt = (start, end)[files.index(False)]
        raise RequestError(f"one end of the walk is a file and {prompt!r} is not", hint="name two pictures, or two prompts")
    return files[0]
