"""The text that A1111 puts under a picture, as many do after it: the prompt, `Negative prompt:`, and one line of `Name: value` pairs.

Reading follows AUTOMATIC1111/stable-diffusion-webui modules/infotext_utils.py. The format has no way to write a prompt with a line that
begins with `Negative prompt:`, or one with blanks around its lines. But a pair called `Prompt` in the last line takes the place of the
prompt above it, in A1111 too: it is written where it is needed, and so every prompt survives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import ImageError, RequestError
from ..core.rng import to_noise_source
from .provenance import LONGEST, Lora, Provenance, to_extra, to_loras, to_number, to_pair, to_text, to_whole

PROMPT, NEGATIVE = "Prompt", "Negative prompt"
FEWEST = 3  # pairs that make a line one of settings
NAME = re.compile(r"\w[\w \-/]{0,80}")
QUOTED = re.compile(r'"(?:\\.|[^\\"])*"')
END = re.compile(r"[ \t]*(?:,|$)")
LORA = re.compile(r"<(?:lora|lyco):([^:<>]{1,200}):([0-9.+-]{1,20})[^<>]{0,40}>")
HASH = re.compile(r"[0-9a-f]{8,64}")
KNOWN = (
    "Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model", "VAE hash", "VAE", "Denoising strength",
    "Clip skip", "Eta", "RNG", "ENSD", "Noise source", "Variation seed", "Variation seed strength",
    PROMPT, NEGATIVE,
)  # fmt: skip


SAMPLERS = {  # ours -> A1111's, which are what programs look for; the others keep our names
    "ddim": "DDIM",
    "dpm++2m": "DPM++ 2M",
    "dpm++2m-sde": "DPM++ 2M SDE",
    "dpm++2s-ancestral": "DPM++ 2S a",
    "dpm++3m-sde": "DPM++ 3M SDE",
    "dpm++sde": "DPM++ SDE",
    "dpm2": "DPM2",
    "dpm2-ancestral": "DPM2 a",
    "euler": "Euler",
    "euler-ancestral": "Euler a",
    "heun": "Heun",
    "lcm": "LCM",
    "lms": "LMS",
    "plms": "PLMS",
    "unipc": "UniPC",
}
GRIDS = {
    "ays": "Align Your Steps",
    "beta": "Beta",
    "exponential": "Exponential",
    "karras": "Karras",
    "trailing": "SGM Uniform",
    "uniform": "Uniform",
}


def to_parameters(record: Mapping[str, Any]) -> str:
    """The text for a record of ours, as a picture's metadata hold it: a Plan's fields, `model`, `fingerprint` and the like.

    Samplers and grids get the names that A1111 has for them. `from_parameters` reads the same back, whatever the prompts are.
    """
    prompt, negative = record["prompt"], record["negative"]
    source = to_noise_source(record.get("noise_source", "ours"))
    pairs: dict[str, Any] = {"Steps": record["steps"], "Sampler": SAMPLERS.get(record["sampler"], record["sampler"])}
    pairs |= {"Schedule type": GRIDS.get(record["grid"], record["grid"])}
    pairs |= {"CFG scale": record["guidance"], "Seed": record["seed"], "Size": f"{record['width']}x{record['height']}"}
    pairs |= {"Model hash": record.get("fingerprint", "")[:10], "Model": record.get("model")}
    pairs |= {
        "VAE hash": record.get("decoder", "")[:10],
        "VAE": record.get("vae"),
        "Denoising strength": record.get("strength") if record.get("start") else None,
    }
    if record.get("variation"):
        pairs |= {"Variation seed": record.get("variation_seed"), "Variation seed strength": record["variation"]}
    pairs |= {"Clip skip": record.get("clip_skip"), "Eta": record.get("eta") or None, "ENSD": source.shift or None}
    pairs |= {
        "Image CFG scale": record.get("picture_guidance"),
        "Refiner": record.get("refiner"),
        "Refiner switch at": record.get("handover"),
    }
    pairs |= {"Lora hashes": ", ".join(f"{to_alias(one['file'])}: {one['short']}" for one in record.get("adapters", ()))}
    pairs |= {"RNG": "NV" if source.gpu else "CPU", "Noise source": record.get("noise_source")}
    pairs |= {"Version": f"eightfold {record.get('eightfold', '')}"}
    above = f"{prompt}\n{NEGATIVE}: {negative}" if negative else prompt
    line = ", ".join(f"{name}: {quote(value)}" for name, value in pairs.items() if value not in (None, ""))
    if read_prompts(f"{above}\n{line}".strip().split("\n")[:-1]) != (prompt, negative):
        line += f", {PROMPT}: {json.dumps(prompt, ensure_ascii=False)}, {NEGATIVE}: {json.dumps(negative, ensure_ascii=False)}"
    return f"{above}\n{line}".strip()


def quote(value: Any) -> str:
    """A value as it stands in the line: JSON where it would end too early."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:"\n\r]', text) or text != text.strip() else text


def from_parameters(text: str) -> Provenance:
    """The text as a Provenance of the source a1111. ImageError where it has no line of settings."""
    above, pairs = split_text(text)
    prompt, negative = read_prompts(above)
    prompt, negative = pairs.get(PROMPT, prompt), pairs.get(NEGATIVE, negative)
    width, _, height = pairs.get("Size", "").partition("x")
    return Provenance(
        source="a1111",
        prompt=prompt,
        negative=negative,
        size=to_pair(width, height),
        seed=to_whole(pairs.get("Seed")),
        steps=to_whole(pairs.get("Steps")),
        sampler=to_text(pairs.get("Sampler")),
        grid=to_text(pairs.get("Schedule type")),
        guidance=to_number(pairs.get("CFG scale")),
        eta=to_number(pairs.get("Eta")),
        strength=to_number(pairs.get("Denoising strength")),
        clip_skip=to_whole(pairs.get("Clip skip", "1"), 1, 100),
        noise_source=find_noise(pairs),
        variation=to_number(pairs.get("Variation seed strength")),
        variation_seed=to_whole(pairs.get("Variation seed")),
        model=to_text(pairs.get("Model")),
        model_hash=to_text(pairs.get("Model hash")),
        vae=to_text(pairs.get("VAE")),
        vae_hash=to_text(pairs.get("VAE hash")),
        loras=add_hashes(to_loras(LORA.findall(prompt)), pairs.get("Lora hashes", "")),
        extra=to_extra(pairs, KNOWN),
    )


def to_alias(file: str) -> str:
    """The name of a LoRA as A1111 writes it before its hash (extra_networks_lora.py)."""
    return Path(file).stem.replace(":", "").replace(",", "")


def add_hashes(loras: tuple[Lora, ...], text: str) -> tuple[Lora, ...]:
    """`Lora hashes: "NAME: 12 digits, NAME: 12 digits"`, by name."""
    pairs = (pair.rpartition(":") for pair in text.split(","))
    hashes = {name.strip(): short.strip().lower() for name, _, short in pairs}
    found = ((lora, hashes.get(to_alias(lora.name), "")) for lora in loras)
    return tuple(replace(lora, short=short if HASH.fullmatch(short) else "") for lora, short in found)


def find_noise(pairs: Mapping[str, str]) -> str:
    """Without RNG a picture's noise was drawn on a GPU, and NV is the same on a CPU; ours says what it was."""
    try:
        to_noise_source(pairs.get("Noise source", ""))
        return pairs["Noise source"]
    except RequestError:
        shift = to_whole(pairs.get("ENSD"), 1, 10**12 - 1)
        words = [*["gpu"] * (pairs.get("RNG") != "CPU"), *([f"ensd={shift}"] if shift else [])]
        return ":".join(["a1111", ",".join(words)] if words else ["a1111"])


def split_text(text: str) -> tuple[list[str], dict[str, str]]:
    """The lines of the prompts, and the pairs of the settings: the last line, or the last that begins with "Steps:"."""
    if len(text) > LONGEST:
        raise ImageError(f"parameters of {len(text)} characters are longer than {LONGEST}", hint="the file is not what it seems")
    lines = text.strip().split("\n")
    for number in range(len(lines) - 1, -1, -1):
        if number == len(lines) - 1 or lines[number].lstrip().startswith("Steps:"):
            pairs = to_pairs(lines[number])
            if len(pairs) >= FEWEST:
                return lines[:number], pairs
    hint = f"expected a line such as `Steps: 20, Sampler: Euler a, Seed: 1`, of at least {FEWEST} pairs"
    raise ImageError("parameters without a line of settings", hint=hint)


def read_prompts(lines: list[str]) -> tuple[str, str]:
    """The prompt, and the negative prompt from the line on that begins with its name; blanks around lines are lost."""
    prompt: list[str] = []
    negative: list[str] = []
    into = prompt
    for line in lines:
        line = line.strip()
        if line.startswith(f"{NEGATIVE}:"):
            into, line = negative, line.removeprefix(f"{NEGATIVE}:").strip()
        into.append(line)
    return "\n".join(prompt), "\n".join(negative).lstrip("\n")


def to_pairs(line: str) -> dict[str, str]:
    """`Name: value, Name: "quoted, value"` by name, in one pass over a line of any content."""
    pairs: dict[str, str] = {}
    place = 0
    while (colon := line.find(":", place)) >= 0:
        name = line[max(place, colon - 100) : colon].rpartition(",")[2].strip()
        start = colon + 1
        while start < len(line) and line[start] in " \t":
            start += 1
        value = QUOTED.match(line, start)
        if value and END.match(line, value.end()):
            place, text = find_comma(line, value.end()) + 1, unquote(value[0])
        else:
            end = find_comma(line, start)
            place, text = end + 1, line[start:end].strip()
        if NAME.fullmatch(name) and (text or value):  # nothing at all is no value, `""` is one
            pairs[name] = text
    return pairs


def find_comma(line: str, start: int) -> int:
    """The next comma, or the end."""
    comma = line.find(",", start)
    return len(line) if comma < 0 else comma


def unquote(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text
