"""eightfold convert: weights from one format, layout or number type to another."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..core.errors import OutputError
from ..core.files import refuse_existing
from ..specs.space import DType
from .console import DONE, say, say_json, show_loading, show_progress
from .options import Flag, refuse_folder

SUFFIX = ".safetensors"


def convert(
    source: Path,
    out: Path,
    /,
    *,
    layout: Literal["diffusers", "original"] | None = None,
    dtype: DType | None = None,
    component: str | None = None,
    overwrite: Flag = False,
    json: Flag = False,
) -> int:
    """Weights of any known format as one safetensors file: renamed to another layout, cast, or one component of several.

    Parameters
    ----------
    source
        A weight file of any format, the index of shards, or a folder in diffusers' layout.
    out
        The safetensors file to write. It keeps the metadata of the file; of a folder's config.json only the scaling factor.
    layout
        The names and shapes of diffusers or those of the original single file. Without it names stay, but for a component's prefix.
    dtype
        For all tensors but whole numbers. Without it types stay, and quantised tensors become float32.
    component
        Which part of a file or folder that has several: autoencoder, denoiser, text, or another that the refusal without it lists.
    overwrite
        Replace OUT if it is there already.
    json
        Print the result as JSON.
    """
    if out.suffix.lower() != SUFFIX:
        raise OutputError(f"{out}: the result is a safetensors file", hint=f"name it {out.stem or 'NAME'}{SUFFIX}")
    refuse_existing(out, overwrite=overwrite)
    refuse_folder(out)
    with show_loading("PyTorch"):
        from ..checkpoints.translate import read_translation, write_translation
    found = read_translation(source, component=component, layout=layout, dtype=dtype)
    with show_progress() as update:
        for progress in write_translation(found, out, overwrite=overwrite):
            update(progress)
    dtypes = list(dict.fromkeys(str(tensor.dtype).removeprefix("torch.") for tensor in found.tensors.values()))
    facts = {"component": found.identity.component, "layout": found.layout, "dtypes": dtypes, "tensors": len(found.tensors)}
    size = out.stat().st_size
    if json:
        said = {"left_out": found.left_out, "notes": found.source.notes}
        say_json({"source": str(source), "out": str(out), **facts, "bytes": size, **said})
        return DONE
    named = f", {found.layout} layout" if found.layout in ("diffusers", "original") else ""
    say(f"{out}  {found.identity.component}{named}, {' and '.join(dtypes)}, {len(found.tensors)} tensors, {size / 1e6:.1f} MB")
    for one in found.left_out:
        say(f"  left out: {one}")
    for note in found.source.notes:
        say(f"  note: {note}")
    return DONE
