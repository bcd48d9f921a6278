"""eightfold enlarge: pictures made larger by a network of the user's."""

from __future__ import annotations

import json as texts
from dataclasses import replace
from pathlib import Path

from ..core.progress import Progress
from ..core.versions import read_versions
from .console import Outcome, show_loading, show_progress
from .options import Output, to_text
from .transcode import require

SUFFIX = ".large.png"


def enlarge(
    *image: Path,
    model: Path,
    device: str = "auto",
    dtype: str = "auto",
    memory: str | None = None,
    output: Output = Output(),
) -> int:
    """Pictures made larger by a network of the user's, such as ESRGAN: each as a picture NAME.large.png.

    Parameters
    ----------
    image
        Picture files, or folders of them.
    model
        A weight file of ESRGAN's kind (RRDBNet), of any format; it says how many times larger.
    device
        auto, cpu, cuda, cuda:1, mps.
    dtype
        auto, float32, bfloat16 or float16.
    memory
        How much the process may take, such as 4GB: larger pictures are done in tiles that overlap. By default 80 % of what is free.
    """
    from ..pipelines.gather import list_pictures

    files = list_pictures(require(image, "eightfold enlarge photo.jpg --model esrgan.pth"))
    paths = output.to_paths([f"{path.stem}{SUFFIX}" for path in files])
    with show_loading(str(model)):
        from ..codec.pixels import read_picture
        from ..pipelines.enlarge import enlarge_picture, load_enlarger

        enlarger = load_enlarger(model, device=device, dtype=dtype, memory=memory)
    outcome = Outcome()
    for path, out in zip(files, paths, strict=True):
        with outcome.attempt(str(path)), show_progress() as update:
            update(Progress(task=f"enlarging {path}", number=0, total=1))
            made = enlarge_picture(enlarger, read_picture(path), report=update)
            record = {"enlarged": path.name, "enlarger": {"file": str(model), "sha256": enlarger.sha256}, "factor": enlarger.factor}
            record |= {"notes": list(made.notes), **read_versions()}
            made = replace(made, metadata={"eightfold": texts.dumps(record, ensure_ascii=False)})
            notes = (*made.notes, *made.save(out, overwrite=output.overwrite))
            result = {"source": str(path), "path": str(out), "width": made.width, "height": made.height, "notes": list(notes)}
            outcome.add({**result, "factor": enlarger.factor}, f"{out}{to_text(notes)}", as_json=output.json)
    return outcome.finish(as_json=output.json, reason=enlarger.reason)
