"""What InvokeAI writes into a PNG: `invokeai_metadata`, and before version 3 `sd-metadata` and `Dream`.

Names are those of invoke-ai/InvokeAI invokeai/app/invocations/metadata.py (CoreMetadataInvocation), and of ldm/invoke/args.py in version 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from .provenance import LONGEST_VALUE, Provenance, to_extra, to_loras, to_number, to_pair, to_prompt, to_table, to_text, to_whole

CORE = (
    "positive_prompt", "negative_prompt", "width", "height", "seed", "steps", "scheduler", "cfg_scale", "strength", "clip_skip", "model",
    "vae", "loras",
)  # fmt: skip
SWITCHES = {"-s": "steps", "-S": "seed", "-W": "width", "-H": "height", "-C": "cfg_scale", "-A": "sampler", "-f": "strength"}
QUOTED = re.compile(r'\s*"((?:\\.|[^"\\])*)"')
BRACKETS = re.compile(r"\[([^\[\]]*)\]")


def from_invokeai(text: str) -> Provenance:
    """`invokeai_metadata`. ImageError for what is no JSON object."""
    table = to_table(text, what="invokeai_metadata")
    model, vae = to_model(table.get("model")), to_model(table.get("vae"))
    loras = table.get("loras")
    pairs = [(to_model(one.get("model") or one.get("lora"))[0], one.get("weight")) for one in to_tables(loras)]
    return Provenance(
        source="invokeai",
        prompt=to_prompt(table.get("positive_prompt")),
        negative=to_prompt(table.get("negative_prompt")),
        size=to_pair(table.get("width"), table.get("height")),
        seed=to_whole(table.get("seed")),
        steps=to_whole(table.get("steps")),
        sampler=to_text(table.get("scheduler")),
        guidance=to_number(table.get("cfg_scale")),
        strength=to_number(table.get("strength")),
        clip_skip=to_skip(table.get("clip_skip")),
        model=model[0],
        model_hash=model[1],
        vae=vae[0],
        vae_hash=vae[1],
        loras=to_loras(pairs),
        extra=to_extra(table, CORE),
    )


def to_skip(value: Any) -> int | None:
    """InvokeAI counts the layers that are left out; we count from the last, which is 1."""
    skipped = to_whole(value, 0, 100)
    return None if skipped is None else skipped + 1


def to_model(value: Any) -> tuple[str | None, str | None]:
    """Name and hash, however the version of the day writes them."""
    if not isinstance(value, dict):
        return to_text(value), None
    table = cast(dict[str, Any], value)
    return to_text(table.get("name")) or to_text(table.get("model_name")), to_text(table.get("hash"))


def to_tables(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; none where it is something else."""
    return [cast(dict[str, Any], one) for one in cast(list[Any], value) if isinstance(one, dict)] if isinstance(value, list) else []


def from_sd_metadata(text: str) -> Provenance:
    """`sd-metadata`. ImageError for what is no JSON object with an `image` in it."""
    table = to_table(text, what="sd-metadata")
    found = table.get("image")
    image = cast(dict[str, Any], found) if isinstance(found, dict) else {}
    prompt = image.get("prompt")
    parts = [to_prompt(one.get("prompt")) for one in to_tables(prompt)]
    others = {**{name: value for name, value in table.items() if name != "image"}, **image}
    extra = to_extra(
        others, ("prompt", "width", "height", "seed", "steps", "sampler", "cfg_scale", "strength", "model_weights", "model_hash")
    )
    return to_old(" ".join(parts) or to_prompt(prompt), image, to_text(table.get("model_weights")), to_text(table.get("model_hash")), extra)


def from_dream(text: str) -> Provenance:
    """`Dream`, a command line: the prompt, early in quotes, then switches such as -s 50 -S 1234 -W 512 -H 512 -C 7.5 -A k_lms."""
    quoted = QUOTED.match(text[:LONGEST_VALUE])
    if quoted:
        prompt, switches = re.sub(r"\\(.)", r"\1", quoted[1]), text[quoted.end() : LONGEST_VALUE]
    else:
        first = re.search(r"\s-s\s?\d", text[:LONGEST_VALUE])
        prompt, switches = (text[: first.start()], text[first.start() : LONGEST_VALUE]) if first else (text[:LONGEST_VALUE], "")
    words = switches.split()
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for place, word in enumerate(words):
        if not re.match(r"--?[A-Za-z]", word):
            continue
        name, value = (word, "") if word.startswith("--") else (word[:2], word[2:])
        if not value and not re.match(r"--?[A-Za-z]", after := "".join(words[place + 1 : place + 2])):
            value = after
        if name in SWITCHES:
            values[SWITCHES[name]] = value
        else:
            extra[name] = value or True
    return to_old(prompt, values, None, None, to_extra(extra))


def to_old(prompt: str, image: Mapping[str, Any], model: str | None, model_hash: str | None, extra: Mapping[str, Any]) -> Provenance:
    """Version 2: what to lead away from stands in the prompt, in square brackets."""
    negative = " ".join(part.strip() for part in BRACKETS.findall(prompt))
    return Provenance(
        source="invokeai",
        prompt=" ".join(BRACKETS.sub(" ", prompt).split()) if negative else prompt,
        negative=negative,
        size=to_pair(image.get("width"), image.get("height")),
        seed=to_whole(image.get("seed")),
        steps=to_whole(image.get("steps")),
        sampler=to_text(image.get("sampler")),
        guidance=to_number(image.get("cfg_scale")),
        strength=to_number(image.get("strength")),
        model=model,
        model_hash=model_hash,
        extra=dict(extra),
    )
