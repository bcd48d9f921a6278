"""eightfold noise: what forward diffusion does to a picture."""

from __future__ import annotations

import json
from pathlib import Path

from ..core.errors import RequestError
from .console import Outcome, track
from .options import Choice, Naming, Output, Whole, to_placement, to_text
from .transcode import load_codec


def noise(
    image: Path,
    /,
    *,
    at: str = "0.2,0.5,0.8",
    seed: Whole = 0,
    choice: Choice = Choice(),
    naming: Naming = Naming(),
    output: Output = Output(),
) -> int:
    """A picture with noise mixed into its latent, decoded: a strip of several times.

    Parameters
    ----------
    image
        The picture.
    at
        Times from 0 (clean) to 1 (noise), separated by commas.
    seed
        Of the noise.
    """
    from ..pipelines.request import check_seed

    times = to_times(at)
    check_seed(seed)
    (path,) = output.to_paths([f"{image.stem}.noise.png"])
    codec, outcome = load_codec(choice, naming), Outcome()
    from ..codec.pixels import read_picture, write_picture
    from ..pipelines.sheet import to_sheet
    from ..pipelines.transcode import diffuse, find_process

    process = find_process(codec.space)
    original = read_picture(image)
    pictures = list(track("noise", diffuse(codec, process, original, times, seed=seed), len(times)))
    images = [original.image, *(picture.image for picture in pictures)]
    labels = ["original", *(f"t = {t:g}, signal {process.alpha(t):.2f}, noise {process.sigma(t):.2f}" for t in times)]
    notes = [*dict.fromkeys(note for picture in pictures for note in picture.notes)]
    record = {**json.loads(pictures[0].metadata["eightfold"]), "at": times, "seed": seed}
    metadata = {"eightfold": json.dumps({**record, "notes": [*dict.fromkeys((*record["notes"], *notes))]})}
    write_picture(path, to_sheet(images, columns=len(images), labels=labels), metadata=metadata, overwrite=output.overwrite)
    result = {"source": str(image), "path": str(path), "at": times, "notes": notes, **to_placement(codec)}
    outcome.add(result, f"{path}{to_text(notes)}", as_json=output.json)
    return outcome.finish(as_json=output.json, reason=codec.reason)


def to_times(text: str) -> list[float]:
    try:
        times = [float(part) for part in text.split(",")]
    except ValueError:
        raise RequestError(f"--at {text!r} is not a list of numbers", hint="--at 0.2,0.5,0.8") from None
    wrong = [t for t in times if not 0 <= t <= 1]
    if wrong:
        raise RequestError(f"--at {wrong[0]:g}: expected times from 0 (clean) to 1 (noise)", hint="--at 0.2,0.5,0.8")
    return times
