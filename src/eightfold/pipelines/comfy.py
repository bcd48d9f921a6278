"""What ComfyUI writes: its whole graph of nodes, from which what a Request asks for is found by walking back from the picture.

Inputs have the names of nodes.py and comfy_extras/nodes_custom_sampler.py of comfyanonymous/ComfyUI. Nodes of others are understood where
their inputs are called the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..core.errors import EightfoldError, ImageError
from .comfygraph import Graph, Link, Node, Scalar, find_value, from_prompt, from_workflow, list_links, to_mapping, walk
from .provenance import Provenance, to_loras, to_number, to_pair, to_table, to_text, to_whole

LATENTS = ("latent_image", "latent", "samples", "latents", "image", "images", "pixels")
PARTS = ("noise", "guider", "sigmas", "sampler")  # what a custom sampler is put together from
TEXTS = ("text", "text_g", "text_l", "prompt", "clip_l", "t5xxl")
MODELS = ("ckpt_name", "unet_name", "model_name", "gguf_name")
MOST_PASSES = 20


def from_comfy(texts: Mapping[str, str]) -> Provenance:
    """The texts `prompt` and `workflow` of a picture. ImageError where neither is a graph with a sampler in it."""
    problem: EightfoldError | None = None
    for name, to_graph in (("prompt", from_prompt), ("workflow", from_workflow)):
        try:
            if name in texts:
                return from_graph(to_graph(to_table(texts[name], what=f"the ComfyUI {name}")))
        except ImageError as error:
            problem = problem or error
    raise problem or ImageError("no ComfyUI graph", hint="it is in the texts `prompt` and `workflow`")


def from_graph(graph: Graph) -> Provenance:
    """The first pass of the picture, from noise; the later ones are in `extra`."""
    passes = find_passes(graph)
    if not passes:
        raise ImageError("a ComfyUI graph without a sampler", hint="the picture was not generated, or by nodes that are not known here")
    first = list(collect_parts(graph, passes[0]))
    models = list(walk(graph, follow_model(first), lambda node, _: list_links(node, ("model",))))
    texts = {side: find_texts(graph, first, side) for side in ("positive", "negative")}
    source = find_source(graph, passes[0])
    extra: dict[str, Any] = {"nodes": len(graph)} | find_batch(graph, source)
    extra |= {f"pass {number}": to_line(describe(graph, list(collect_parts(graph, one)))) for number, one in enumerate(passes[1:], 2)}
    facts = describe(graph, first)
    return Provenance(
        source="comfyui",
        prompt=texts["positive"],
        negative=texts["negative"],
        size=to_pair(find_value(graph, source, "width"), find_value(graph, source, "height")) if source else None,
        seed=to_whole(facts.get("seed")),
        steps=to_whole(facts.get("steps")),
        sampler=to_text(facts.get("sampler")),
        grid=to_text(facts.get("scheduler")),
        guidance=to_number(facts.get("cfg")),
        strength=to_number(facts.get("denoise")),
        clip_skip=find_clip_skip(graph, first),
        noise_source="comfy:gpu",
        model=next((name for _, node in models if (name := to_text(find_value(graph, node, *MODELS)))), None),
        vae=next((name for node in graph.values() if (name := to_text(node.inputs.get("vae_name")))), None),
        loras=to_loras(pair for _, node in reversed(models) for pair in list_loras(graph, node)),
        extra=extra,
    )


def is_sampler(node: Node) -> bool:
    inputs = node.inputs.keys()
    return bool({"seed", "noise_seed", "noise"} & inputs and {"positive", "guider"} & inputs and {"sampler_name", "sampler"} & inputs)


def find_passes(graph: Graph) -> list[Node]:
    """The samplers behind the picture, in the order in which they ran: from the last one back along what each goes on from."""
    linked = {link.node for node in graph.values() for link in list_links(node)}
    ends = [Link(name, 0) for name in graph if name not in linked] or [Link(name, 0) for name in graph]
    found = next((node for _, node in walk(graph, ends, lambda node, _: list_links(node)) if is_sampler(node)), None)
    passes: list[Node] = []
    while found is not None and found not in passes and len(passes) < MOST_PASSES:
        passes.append(found)
        before = walk(graph, list_links(found, LATENTS), lambda node, _: [] if is_sampler(node) else list_links(node))
        found = next((node for _, node in before if is_sampler(node)), None)
    return passes[::-1]


def collect_parts(graph: Graph, sampler: Node) -> Iterator[Node]:
    """A sampler, and what a custom one is put together from."""
    yield sampler
    for name in PARTS:
        links = list_links(sampler, (name,))
        for _, node in walk(graph, links, lambda node, _, name=name: list_links(node, (name,))):
            yield node


def describe(graph: Graph, parts: list[Node]) -> dict[str, Scalar]:
    """The settings of one pass, by ComfyUI's names."""
    facts: dict[str, Scalar | None] = {"seed": look(graph, parts, "seed", "noise_seed")}
    facts |= {name: look(graph, parts, name) for name in ("steps", "cfg", "denoise", "start_at_step", "end_at_step")}
    facts["sampler"], facts["scheduler"] = look(graph, parts, "sampler_name"), look(graph, parts, "scheduler")
    for name in ("sampler", "scheduler"):  # SamplerEulerAncestral, KarrasScheduler and the like say it by their class
        if facts[name] is None:
            facts[name] = next((to_name(node.kind) for node in parts[1:] if name in node.kind.lower()), None)
    if parts[0].inputs.get("add_noise") in ("disable", False):
        facts["add_noise"] = "disable"
    return {name: value for name, value in facts.items() if value is not None}


def to_name(kind: str) -> str:
    """Of a node that stands for one sampler or scheduler: EulerAncestral, Karras."""
    return kind.removeprefix("Sampler").removesuffix("Scheduler") or kind


def to_line(facts: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def look(graph: Graph, parts: Iterable[Node], *names: str) -> Scalar | None:
    return next((value for node in parts if (value := find_value(graph, node, *names)) is not None), None)


def find_source(graph: Graph, sampler: Node) -> Node | None:
    """Where the first latent comes from: a node with a width and a height, and nothing before it."""
    before = walk(graph, list_links(sampler, LATENTS), lambda node, _: list_links(node))
    return next((node for _, node in before if {"width", "height"} <= node.inputs.keys() and not list_links(node, LATENTS)), None)


def find_batch(graph: Graph, source: Node | None) -> dict[str, Any]:
    size = to_whole(find_value(graph, source, "batch_size"), 2, 10_000) if source else None
    return {"batch_size": size} if size else {}


def find_texts(graph: Graph, parts: list[Node], side: str) -> str:
    """The texts behind one side of the guidance, joined by lines; of a node with two sides the link's slot says which (0 is positive)."""
    ends = [link for node in parts for link in list_links(node, (side, *["conditioning"] * (side == "positive")))]

    def follow(node: Node, link: Link) -> list[Link]:
        if {"positive", "negative"} <= node.inputs.keys():
            return list_links(node, ("positive" if link.slot == 0 else "negative",))
        if any(find_value(graph, node, name) is not None for name in TEXTS if name in node.inputs):
            return []
        return list_links(node, [name for name in node.inputs if "cond" in name])

    found: dict[str, None] = {}
    for _, node in walk(graph, ends[:1], follow, by_slot=True):
        own = [text for name in TEXTS if name in node.inputs and isinstance(text := find_value(graph, node, name), str) and text.strip()]
        if "clip" in node.inputs or not list_links(node):
            found |= dict.fromkeys(own)
    return "\n".join(found)


def follow_model(parts: list[Node]) -> list[Link]:
    return [link for node in parts for link in list_links(node, ("model",))][:1]


def find_clip_skip(graph: Graph, parts: list[Node]) -> int | None:
    """From the text encoder's last layer that is used: -2 is the last but one, which is 2."""
    ends = [link for node in parts for link in list_links(node, ("positive", "conditioning"))]
    for _, node in walk(graph, ends, lambda node, _: list_links(node)):
        layer = to_number(node.inputs.get("stop_at_clip_layer"))
        if layer is not None and -24 <= layer <= -1:
            return -int(layer)
    return None


def list_loras(graph: Graph, node: Node) -> list[tuple[Any, Any]]:
    """Of a loader its one, and of loaders for several those that are on: inputs that are tables with `lora` and `strength`."""
    pairs: list[tuple[Any, Any]] = []
    if "lora_name" in node.inputs:
        pairs.append((find_value(graph, node, "lora_name"), find_value(graph, node, "strength_model", "strength")))
    for table in map(to_mapping, node.inputs.values()):
        if "lora" in table and table.get("on", True):
            pairs.append((table["lora"], table.get("strength")))
    return pairs
