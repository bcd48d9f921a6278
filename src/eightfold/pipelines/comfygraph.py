"""A ComfyUI graph: nodes with inputs that are values or links, and ways along the links that end on any graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..core.errors import ImageError

MOST_NODES, MOST_INPUTS, MOST_WAYS = 20_000, 500, 200_000
HOPS = 64
Scalar = str | int | float | bool
VALUES = ("value", "text", "string", "seed", "noise_seed", "int", "float", "number")  # the inputs in which nodes hold a value for others
SEED_FOLLOWED = "control_after_generate"  # a widget that the page puts behind every seed
WIDGETS = {  # which widgets a core node has, in their order; nodes.py and comfy_extras/ of comfyanonymous/ComfyUI
    "KSampler": ("seed", SEED_FOLLOWED, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        "add_noise", "noise_seed", SEED_FOLLOWED, "steps", "cfg", "sampler_name", "scheduler", "start_at_step", "end_at_step",
        "return_with_leftover_noise",
    ),
    "SamplerCustom": ("add_noise", "noise_seed", SEED_FOLLOWED, "cfg"),
    "RandomNoise": ("noise_seed", SEED_FOLLOWED),
    "CFGGuider": ("cfg",),
    "FluxGuidance": ("guidance",),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "KarrasScheduler": ("steps", "sigma_max", "sigma_min", "rho"),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeSDXL": ("width", "height", "crop_w", "crop_h", "target_width", "target_height", "text_g", "text_l"),
    "CLIPTextEncodeSDXLRefiner": ("ascore", "width", "height", "text"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "VAELoader": ("vae_name",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "LatentFromBatch": ("batch_index", "length"),
    "PrimitiveNode": ("value",),
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """`kind` is its class; `inputs` are values, or links to other nodes."""

    kind: str
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Link:
    """The output number `slot` of a node."""

    node: str
    slot: int


Graph = Mapping[str, Node]


def from_prompt(table: Mapping[str, Any]) -> Graph:
    """The text `prompt`: node by name, with `class_type` and `inputs`. ImageError where there are no nodes in it, or too many."""
    graph: dict[str, Node] = {}
    for name, one in list(table.items())[: MOST_NODES + 1]:
        node = to_mapping(one)
        if isinstance(node.get("class_type"), str):
            graph[name] = Node(node["class_type"], dict(list(to_mapping(node.get("inputs")).items())[:MOST_INPUTS]))
    return require_nodes(graph)


def from_workflow(table: Mapping[str, Any]) -> Graph:
    """The text `workflow`, what the page shows: nodes with lists of widgets, whose names are known for core nodes alone."""
    links: dict[Any, list[Any]] = {}
    for one in to_list(table.get("links")):
        table_row = [to_mapping(one).get(name) for name in ("id", "origin_id", "origin_slot")]
        row = table_row if isinstance(one, dict) else to_list(one)
        if len(row) >= 3 and isinstance(row[0], int):
            links[row[0]] = [str(row[1]), row[2]]
    graph: dict[str, Node] = {}
    for one in to_list(table.get("nodes"))[: MOST_NODES + 1]:
        node = to_mapping(one)
        kind = node.get("type")
        if not isinstance(kind, str) or node.get("mode") in (2, 4):  # muted and bypassed
            continue
        widgets = node.get("widgets_values")
        inputs = (
            dict(to_mapping(widgets)) if isinstance(widgets, dict) else dict(zip(WIDGETS.get(kind, ()), to_list(widgets), strict=False))
        )
        for one_input in map(to_mapping, to_list(node.get("inputs"))):
            link = one_input.get("link")
            if isinstance(link, int) and link in links:
                inputs[str(one_input.get("name"))] = links[link]
        graph[str(node.get("id"))] = Node(kind, dict(list(inputs.items())[:MOST_INPUTS]))
    return require_nodes(graph)


def require_nodes(graph: Graph) -> Graph:
    if not 1 <= len(graph) <= MOST_NODES:
        what = "no nodes" if not graph else f"more than {MOST_NODES} nodes"
        raise ImageError(f"a ComfyUI graph with {what}", hint="it was written by another program, or damaged")
    return graph


def to_mapping(value: Any) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}


def to_list(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def find_link(value: Any) -> Link | None:
    """An input as a link, [node, output]; None where it is a value."""
    pair = to_list(value)
    if len(pair) == 2 and isinstance(pair[0], str | int) and isinstance(pair[1], int):
        return Link(str(pair[0]), pair[1])
    return None


def list_links(node: Node, names: Iterable[str] | None = None) -> list[Link]:
    """The links of a node, all or those of the inputs called so."""
    values = node.inputs.values() if names is None else [node.inputs[name] for name in names if name in node.inputs]
    return [link for value in values if (link := find_link(value))]


def walk(
    graph: Graph, starts: Iterable[Link], follow: Callable[[Node, Link], Iterable[Link]], *, by_slot: bool = False
) -> Iterator[tuple[Link, Node]]:
    """The nodes behind links, the nearest first, going on along the links that `follow` names.

    Each comes once, or `by_slot` each of its outputs.
    """
    todo, seen = list(starts), set[Link | str]()
    place = 0
    while place < len(todo) < MOST_WAYS:
        link = todo[place]
        place += 1
        node = graph.get(link.node)
        key = link if by_slot else link.node
        if node is None or key in seen:
            continue
        seen.add(key)
        yield link, node
        todo += [one for one in follow(node, link) if (one if by_slot else one.node) not in seen]


def find_value(graph: Graph, node: Node, *names: str) -> Scalar | None:
    """The first of the inputs `names` that has a value, its own or one that comes along links."""
    for name in names:
        value = node.inputs.get(name)
        found = value if isinstance(value, Scalar) else follow_value(graph, find_link(value), name)
        if found is not None:
            return found
    return None


def follow_value(graph: Graph, link: Link | None, name: str) -> Scalar | None:
    """What a chain of nodes that hand on a value begins with: an input of that name, or of a name for any value, or the only one."""
    for _ in range(HOPS):
        node = graph.get(link.node) if link else None
        if node is None:
            return None
        named = [node.inputs[one] for one in (name, *VALUES) if one in node.inputs]
        values = named or list(node.inputs.values())
        scalars = [value for value in values if isinstance(value, Scalar)]
        if (named and isinstance(named[0], Scalar)) or (len(scalars) == 1 and not list_links(node)):
            return scalars[0]
        links = [found for value in values if (found := find_link(value))]
        link = links[0] if links else None
    return None
