"""Who made a picture, and how: what any of the known programs wrote into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import EightfoldError, ImageError
from .comfy import from_comfy
from .invoke import from_dream, from_invokeai, from_sd_metadata, to_tables
from .parameters import from_parameters
from .provenance import Lora, Provenance, to_extra, to_number, to_pair, to_prompt, to_table, to_text, to_whole

OWN = (
    "prompt", "negative", "width", "height", "seed", "steps", "sampler", "grid", "guidance", "eta", "strength", "clip_skip", "noise_source",
    "variation", "variation_seed", "model", "fingerprint", "vae", "decoder", "count", "adapters",
)  # fmt: skip
READERS: dict[str, Callable[[Mapping[str, str]], Provenance]] = {  # the name of the text -> who reads it, the surest first
    "eightfold": lambda texts: from_record(texts["eightfold"]),
    "invokeai_metadata": lambda texts: from_invokeai(texts["invokeai_metadata"]),
    "sd-metadata": lambda texts: from_sd_metadata(texts["sd-metadata"]),
    "parameters": lambda texts: from_parameters(texts["parameters"]),
    "prompt": from_comfy,
    "workflow": from_comfy,
    "Dream": lambda texts: from_dream(texts["Dream"]),
}


def read_provenance(path: str | Path) -> Provenance:
    """How a picture was made, from the metadata that Eightfold, A1111, ComfyUI or InvokeAI wrote into it. Pixels are not looked at.

    Raises ImageError: no picture, nothing known in it, or something known that cannot be read.
    """
    from ..codec.pixels import read_metadata

    try:
        return from_texts(read_metadata(path))
    except ImageError as error:
        raise error if str(path) in str(error) else ImageError(f"{path}: {error}", hint=error.hint) from None


def from_texts(texts: Mapping[str, str]) -> Provenance:
    """The first of the known texts that can be read. Otherwise the ImageError of the first that cannot, or one that says there is none."""
    problem: EightfoldError | None = None
    for name, read in READERS.items():
        try:
            if name in texts:
                return read(texts)
        except ImageError as error:
            problem = problem or error
    hint = "many editors and chat programs remove such texts: ask for the file as it was saved"
    raise problem or ImageError("it does not say how it was made", hint=hint)


def from_record(text: str) -> Provenance:
    """What we wrote. ImageError for pictures that came about otherwise than by `generate`."""
    record = to_table(text, what="the text `eightfold`")
    if not isinstance(record.get("prompt"), str) or "walk" in record:
        raise ImageError("it was made by Eightfold, and not by `generate`", hint="`eightfold info` shows what it says")
    return Provenance(
        source="eightfold",
        prompt=to_prompt(record.get("prompt")),
        negative=to_prompt(record.get("negative")),
        size=to_pair(record.get("width"), record.get("height")),
        seed=to_whole(record.get("seed")),
        steps=to_whole(record.get("steps")),
        sampler=to_text(record.get("sampler")),
        grid=to_text(record.get("grid")),
        guidance=to_number(record.get("guidance")),
        eta=to_number(record.get("eta")),
        strength=to_number(record.get("strength")),
        clip_skip=to_whole(record.get("clip_skip"), 1, 100),
        noise_source=to_text(record.get("noise_source")),
        variation=to_number(record.get("variation")),
        variation_seed=to_whole(record.get("variation_seed")),
        model=to_text(record.get("model")),
        model_hash=to_text(record.get("fingerprint")),
        vae=to_text(record.get("vae")),
        vae_hash=to_text(record.get("decoder")),
        loras=tuple(lora for row in to_tables(record.get("adapters")) if (lora := to_lora(row)) is not None),
        extra=to_extra(record, OWN),
    )


def to_lora(row: Mapping[str, Any]) -> Lora | None:
    """A row of ours."""
    file, weight = to_text(row.get("file")), to_number(row.get("weight"))
    if file is None or weight is None:
        return None
    return Lora(
        name=Path(file).stem, weight=weight, file=file, sha256=to_text(row.get("sha256")) or "", short=to_text(row.get("short")) or ""
    )
