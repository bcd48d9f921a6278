"""eightfold walk: from one picture or prompt to another through latent space."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import OutputError
from .console import Outcome, track
from .generate import Sampling
from .options import Choice, Output, to_slug
from .transcode import load_codec


def walk(
    start: str,
    end: str,
    *,
    frames: int = 16,
    milliseconds: int = 100,
    sampling: Sampling = Sampling(),
    choice: Choice = Choice(),
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
    both = [Path(text) for text in (start, end)]
    pictures = all(path.is_file() for path in both)
    name = "-to-".join(path.stem for path in both) if pictures else f"{to_slug(start, 30)}-to-{to_slug(end, 30)}"
    (path,) = output.to_paths([f"{name}.webp"], (".webp", ".gif"))
    if path.suffix.lower() not in (".webp", ".gif"):
        raise OutputError(f"{path}: a walk is an animation", hint="name it .gif or .webp")
    from ..codec.pixels import write_animation
    from ..pipelines.bundle import load
    from ..pipelines.walk import to_pairs, walk_images, walk_prompts

    if pictures:
        metadata = {"eightfold.walk": f"{start} | {end}"}
        run = walk_images(load_codec(choice), start, end, frames)
    else:
        metadata = {"eightfold.walk": f"{start} | {end}", "eightfold.seed": str(sampling.seed)}
        model = load(choice.model, vae=choice.vae, device=choice.device, dtype=choice.dtype)
        run = walk_prompts(model, sampling.to_request(start), sampling.to_request(end), frames)
    pairs = to_pairs(list(track("walk", run, frames)))
    write_animation(path, [*pairs, *pairs[-2:0:-1]], milliseconds=milliseconds, metadata=metadata, overwrite=output.overwrite)
    outcome = Outcome()
    outcome.add({"start": start, "end": end, "frames": frames, "path": str(path)}, str(path), as_json=output.json)
    return outcome.finish(as_json=output.json)
