"""The request behind a picture: the same again for ours, as near as it gets for those of other programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.device import DTYPES, name_dtype
from ..core.errors import RequestError, UnknownName
from ..core.rng import to_noise_source
from ..core.versions import read_versions
from ..diffusion.aliases import find_grid, find_sampler
from .bundle import Model
from .metadata import read_provenance
from .provenance import Provenance, to_number, to_text, to_whole
from .request import LARGEST, SEEDS, Request, to_interval, to_room

SILENT = (
    "Version", "User", "batch_size", "app_version", "app_id", "generation_mode", "rand_device", "nodes", "TI hashes", "Lora hashes",
    "Hashes",
)  # fmt: skip
UPSCALE = "Hires upscale"
FEW = 200  # characters of a value that are shown
LORA = "lora "
NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")  # which A1111 takes out of the prompt before it is read


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """A request that repeats a picture, and what of the picture's making it cannot, a sentence each by the name of the field."""

    provenance: Provenance
    request: Request
    missed: Mapping[str, str]


def read_likeness(path: str | Path, *, begins: bool = False, masks: bool = False) -> Likeness:
    """The request of a picture, from its metadata; what they leave open is left to the model. ImageError: see `read_provenance`.

    A picture that began from another one cannot be repeated without it, and files that metadata name are not opened: the caller gives
    it, and its mask, and says so by `begins` and `masks`; otherwise RequestError.
    """
    found = read_provenance(path)
    own = found.source == "eightfold"
    for name, is_given in (("start", begins), ("mask", masks)):
        if own and name in found.extra and not is_given:
            what = f"{path} was made with the {name} {show(found.extra[name])}, which is not in it"
            raise RequestError(what, hint=f"--{name} FILE gives it")
    ours = to_ours(found)
    can = {
        "size": found.size is not None and max(found.size) <= LARGEST,
        "seed": found.seed is not None and found.seed < SEEDS,
        "steps": found.steps is not None and found.steps > 0,
        "sampler": ours["sampler"] is not None,
        "grid": ours["grid"] is not None,
        "guidance": found.guidance is not None and found.guidance >= 0,
        "eta": ours["sampler"] == "ddim" and found.eta is not None and 0 <= found.eta <= 1,
        "noise_source": is_noise_source(found.noise_source),
        "variation": found.variation is not None and 0 <= found.variation <= 1,
        "variation_seed": found.variation_seed is not None and found.variation_seed < SEEDS,
        "negative": found.guidance != 1,
        "strength": begins,
    }
    given = {name: getattr(found, name) for name in can if getattr(found, name) not in (None, "")}
    for name in ("eta", "variation", "variation_seed"):  # where they are 0 they say nothing
        if not given.get(name):
            given.pop(name, None)
    if not begins and found.strength is not None and not 0 < found.strength < 1:
        del given["strength"]
    given |= {name: value for name, value in ours.items() if value is not None}
    known = {name: value for name, value in given.items() if can[name]}
    others = [name for name in given if name not in known]
    prompt = NETWORK.sub("", found.prompt) if found.source == "a1111" else found.prompt
    passes = to_settings(found, begins) if own else to_passes(found)
    request = Request(prompt=prompt, ignore_unknown=own, **{**known, **passes})
    others = [name for name in others if not (name == "strength" and passes.get("enlarge"))]
    missed = {name: text for name, text in list_missed(found).items() if not (passes.get("enlarge") and name == f"extra {UPSCALE}")}
    return Likeness(provenance=found, request=request, missed={**to_reasons(found, others), **missed})


def to_ours(found: Provenance) -> dict[str, str | None]:
    """Our names for its sampler and its grid; None for those that there are not here."""
    sampler, grid = None, None
    with suppress(UnknownName):
        sampler, grid = find_sampler(found.sampler or "")
    with suppress(UnknownName):
        grid = find_grid(found.grid or "") or grid
    if found.source == "a1111" and found.grid is None and sampler is not None:
        grid = grid or "uniform"  # before it had a choice of them, it said it in the sampler's name
    return {"sampler": sampler, "grid": grid}


def to_reasons(found: Provenance, names: Iterable[str]) -> dict[str, str]:
    """Why these fields cannot be as they were."""
    missed = {name: f"{name.replace('_', ' ')} {show(getattr(found, name))} is not possible here" for name in names}
    words = {
        "negative": "the negative prompt has no effect at guidance 1",
        "strength": f"denoising strength {found.strength}: the picture that it began with is not in the file, --start gives it",
    }
    missed |= {name: text for name, text in words.items() if name in missed}
    return missed | ({} if found.seed is not None else {"seed": "it does not say its seed: 0 is taken"})


def to_settings(found: Provenance, begins: bool) -> dict[str, Any]:
    """What else a record of ours says; all but the two passes belongs to a picture to begin from."""
    said = found.extra
    settings: dict[str, Any] = {"enlarge": to_number(said.get("enlarge")), "enlarge_strength": to_number(said.get("enlarge_strength"))}
    settings["rescale"] = to_number(said.get("rescale"))
    settings |= {name: to_number(said.get(name)) for name in ("handover", "picture_guidance")}
    interval = to_text(said.get("interval"))
    settings["interval"] = to_interval(interval.strip("[]")) if interval else None
    if begins:
        room = to_text(said.get("outpaint"))
        settings |= {"feather": to_whole(said.get("feather")), "outpaint": to_room(room.strip("[]")) if room else None}
        settings |= {name: said.get(name) is True for name in ("only_masked", "raw")}
    return {name: value for name, value in settings.items() if value is not None}


def to_passes(found: Provenance) -> dict[str, Any]:
    """The two passes of A1111's "Hires. fix", whose size is that of the first and whose strength that of the second."""
    factor, size = to_number(found.extra.get(UPSCALE)), found.size
    if found.source != "a1111" or factor is None or size is None or not 1 < factor <= 8 or max(size) * factor > LARGEST:
        return {}
    passes: dict[str, Any] = {"size": (int(size[0] * factor), int(size[1] * factor)), "enlarge": factor}
    if found.strength is not None and 0 < found.strength <= 1:
        passes["enlarge_strength"] = found.strength
    return passes


def is_noise_source(text: str | None) -> bool:
    try:
        return text is not None and bool(to_noise_source(text))
    except RequestError:
        return False


def list_missed(found: Provenance) -> dict[str, str]:
    """What a Request has no words for, and what a picture of another program had that cannot be judged here."""
    missed: dict[str, str] = {}
    if found.clip_skip is not None and found.clip_skip > 1:
        missed["clip_skip"] = f"clip skip {found.clip_skip}"
    missed |= {f"{LORA}{number}": f"LoRA {show(lora.name)} at {lora.weight:g}" for number, lora in enumerate(found.loras)}
    if found.source == "eightfold":
        refiner = found.extra.get("refiner")
        return missed | ({"refiner": f"refiner {show(str(refiner))}: give it with --refiner"} if refiner else {})
    named = {"model": found.model or found.model_hash, "vae": found.vae or found.vae_hash}
    missed |= {what: f"{what} {show(name)}: give its file with --{what}" for what, name in named.items() if name}
    if "batch_size" in found.extra:
        missed["noise_source"] = f"one of a batch of {found.extra['batch_size']}: --noise-source comfy:2/4 is the second of four"
    return missed | {f"extra {name}": f"{name}: {show(value)}" for name, value in found.extra.items() if name not in SILENT}


def show(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= FEW else f"{text[:FEW]}... ({len(text)} characters)"


def compare(found: Provenance, model: Model) -> list[str]:
    """Why a picture of ours will not come out the same, bit for bit, with this model: other weights, other numbers, other versions."""
    if found.source != "eightfold":
        return []
    differ: list[str] = []
    weights = {"weights": (found.model_hash, model.fingerprint), "decoder": (found.vae_hash, model.codec.decoder_fingerprint)}
    if model.refiner is not None:
        weights["refiner"] = to_text(found.extra.get("refiner_fingerprint")), model.refiner.fingerprint
    differ += [f"{name} {here[:12]}, not {there[:12]}" for name, (there, here) in weights.items() if there and there != here]
    own = {"dtype": name_dtype(model.placement.dtype), **read_versions()}
    for name in ("dtype", "eightfold", "torch"):
        there = found.extra.get(name, own[name])
        if there != own[name]:
            differ.append(f"{name} {own[name]}, not {show(there)}")
    return differ


def find_dtype(found: Provenance) -> str | None:
    """The numbers in which a picture of ours was made; None where it is not ours or does not say."""
    dtype = found.extra.get("dtype")
    return dtype if found.source == "eightfold" and dtype in DTYPES else None
