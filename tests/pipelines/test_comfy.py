"""ComfyUI's graphs: the settings found by walking back from the picture, and graphs that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightfold.core.errors import ImageError
from eightfold.pipelines.comfy import from_comfy
from eightfold.pipelines.comfygraph import MOST_NODES, Link, from_prompt, list_links, walk
from eightfold.pipelines.provenance import Lora, Provenance
from foreigntexts import build, build_graph


def read(graph: Any, **others: str) -> Provenance:
    return from_comfy({"prompt": graph if isinstance(graph, str) else json.dumps(graph), **others})


def test_the_default_graph() -> None:
    found = read(build_graph())
    assert found == Provenance(
        source="comfyui",
        prompt="a bottle, galaxy",
        negative="text, watermark",
        size=(512, 768),
        seed=156680208700286,
        steps=20,
        sampler="dpmpp_2m",
        grid="karras",
        guidance=8.0,
        strength=1.0,
        clip_skip=2,
        noise_source="comfy:gpu",
        model="sd15.safetensors",
        vae="mse.safetensors",
        loras=(Lora(name="first.safetensors", weight=0.8), Lora(name="second.safetensors", weight=0.5)),
        extra={"nodes": 11},
    )


def test_two_passes_are_told_apart() -> None:
    graph = build_graph()
    graph["20"] = build("LatentUpscale", samples=["3", 0], width=1024, height=1536)
    graph["21"] = build(
        "KSampler", seed=5, steps=14, cfg=6.0, sampler_name="euler", scheduler="simple", denoise=0.5,
        model=["11", 0], positive=["6", 0], negative=["7", 0], latent_image=["20", 0],
    )  # fmt: skip
    graph["8"]["inputs"]["samples"] = ["21", 0]
    graph["5"]["inputs"]["batch_size"] = 4
    found = read(graph)
    assert (found.seed, found.steps, found.size, found.strength) == (156680208700286, 20, (512, 768), 1.0)
    assert found.extra["pass 2"] == "seed 5, steps 14, cfg 6.0, denoise 0.5, sampler euler, scheduler simple"
    assert found.extra["batch_size"] == 4


def test_two_equal_passes_are_two() -> None:
    graph = build_graph()
    again = build(**{"kind": "KSampler", **graph["3"]["inputs"], "latent_image": ["3", 0]})
    third = build(**{"kind": "KSampler", **graph["3"]["inputs"], "latent_image": ["21", 0]})
    graph |= {"21": again, "22": third}
    graph["8"]["inputs"]["samples"] = ["22", 0]
    assert {"pass 2", "pass 3"} <= read(graph).extra.keys()


def test_advanced_sampler() -> None:
    graph = build_graph()
    graph["3"] = build(
        "KSamplerAdvanced", add_noise="enable", noise_seed=7, steps=25, cfg=7.5, sampler_name="euler_ancestral", scheduler="normal",
        start_at_step=0, end_at_step=20, return_with_leftover_noise="enable",
        model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0],
    )  # fmt: skip
    found = read(graph)
    assert (found.seed, found.steps, found.sampler, found.grid, found.guidance) == (7, 25, "euler_ancestral", "normal", 7.5)


def test_custom_sampler() -> None:
    graph = build_graph()
    graph["3"] = build(
        "SamplerCustom", add_noise=True, noise_seed=["30", 0], cfg=3.0, model=["4", 0], positive=["6", 0], negative=["7", 0],
        sampler=["31", 0], sigmas=["32", 0], latent_image=["5", 0],
    )  # fmt: skip
    graph["30"] = build("PrimitiveInt", value=99)
    graph["31"] = build("KSamplerSelect", sampler_name="heun")
    graph["32"] = build("KarrasScheduler", steps=17, sigma_max=14.6, sigma_min=0.03, rho=7.0)
    found = read(graph)
    assert (found.seed, found.steps, found.sampler, found.grid, found.guidance) == (99, 17, "heun", "Karras", 3.0)
    assert (found.prompt, found.negative, found.model) == ("a bottle, galaxy", "text, watermark", "sd15.safetensors")


def test_custom_sampler_in_parts() -> None:
    graph = build_graph()
    graph["3"] = build(
        "SamplerCustomAdvanced", noise=["30", 0], guider=["31", 0], sampler=["32", 0], sigmas=["33", 0], latent_image=["5", 0]
    )
    graph["30"] = build("RandomNoise", noise_seed=1234)
    graph["31"] = build("CFGGuider", cfg=4.5, model=["4", 0], positive=["6", 0], negative=["7", 0])
    graph["32"] = build("SamplerEulerAncestral", eta=1.0, s_noise=1.0)
    graph["33"] = build("SplitSigmas", step=5, sigmas=["34", 0])
    graph["34"] = build("BasicScheduler", scheduler="beta", steps=30, denoise=0.75, model=["4", 0])
    found = read(graph)
    assert (found.seed, found.steps, found.sampler, found.grid) == (1234, 30, "EulerAncestral", "beta")
    assert (found.guidance, found.strength, found.model) == (4.5, 0.75, "sd15.safetensors")
    assert (found.prompt, found.negative) == ("a bottle, galaxy", "text, watermark")


def test_conditioning_on_the_way() -> None:
    """Through a ControlNet, which has both sides, a combination and a text that comes along a link."""
    graph = build_graph()
    graph["40"] = build(
        "ControlNetApplyAdvanced", strength=1.0, positive=["41", 0], negative=["7", 0], control_net=["43", 0], image=["44", 0]
    )
    graph["41"] = build("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["42", 0])
    graph["42"] = build("CLIPTextEncodeSDXL", text_g="second", text_l="second", clip=["4", 1])
    graph["43"] = build("ControlNetLoader", control_net_name="canny.safetensors")
    graph["44"] = build("LoadImage", image="x.png")
    graph["45"] = build("String Literal", string="linked text")
    graph["7"]["inputs"]["text"] = ["45", 0]
    graph["3"]["inputs"] |= {"positive": ["40", 0], "negative": ["40", 1]}
    found = read(graph)
    assert (found.prompt, found.negative) == ("a bottle, galaxy\nsecond", "linked text")


def test_loras_of_one_loader_for_several() -> None:
    graph = build_graph()
    graph["11"] = build(
        "Power Lora Loader",
        lora_1={"on": True, "lora": "a", "strength": 0.3},
        lora_2={"on": False, "lora": "b", "strength": 1},
        model=["4", 0],
    )
    assert read(graph).loras == (Lora(name="a", weight=0.3),)


def test_what_the_page_shows() -> None:
    """Without `prompt`, from `workflow`: lists of widgets, links by number, nodes switched off."""
    names = {"model": 1, "positive": 2, "negative": 3, "latent_image": 4}
    nodes = [
        {"id": 8, "type": "KSampler", "mode": 4, "widgets_values": [1]},
        {"id": 3, "type": "KSampler", "inputs": [{"name": name, "link": link} for name, link in names.items()],
         "widgets_values": [8566257, "randomize", 20, 8, "euler", "normal", 1]},
        {"id": 4, "type": "CheckpointLoaderSimple", "inputs": [], "widgets_values": ["v1-5.ckpt"]},
        {"id": 6, "type": "CLIPTextEncode", "inputs": [{"name": "clip", "link": 5}], "widgets_values": ["a bottle"]},
        {"id": 7, "type": "CLIPTextEncode", "inputs": [{"name": "clip", "link": 6}], "widgets_values": ["watermark"]},
        {"id": 5, "type": "EmptyLatentImage", "widgets_values": [512, 256, 1]},
        {"id": 9, "type": "SaveImage", "inputs": [{"name": "images", "link": 7}], "widgets_values": ["ComfyUI"]},
    ]  # fmt: skip
    links = [
        [1, 4, 0, 3, 0, "MODEL"],
        [2, 6, 0, 3, 1, ""],
        [3, 7, 0, 3, 2, ""],
        [4, 5, 0, 3, 3, ""],
        [5, 4, 1, 6, 0, ""],
        [6, 4, 1, 7, 0, ""],
    ]
    links.append([7, 3, 0, 9, 0, "IMAGE"])
    text = json.dumps({"nodes": nodes, "links": links, "version": 0.4})
    for texts in ({"workflow": text}, {"workflow": text, "prompt": "broken"}):
        found = from_comfy(texts)
        assert (found.seed, found.steps, found.guidance, found.sampler, found.grid) == (8566257, 20, 8.0, "euler", "normal")
        assert (found.prompt, found.negative, found.size, found.model) == ("a bottle", "watermark", (512, 256), "v1-5.ckpt")


def test_numbers_that_are_none() -> None:
    assert read(json.dumps(build_graph()).replace('"batch_size": 1', '"is_changed": [NaN]')).steps == 20


def build_ring() -> dict[str, Any]:
    """Every node leads to every other and to itself."""
    names = [str(number) for number in range(12)]
    ways = {f"cond{name}": [name, 0] for name in names} | {"model": ["1", 0], "latent_image": ["0", 0], "text": ["2", 0], "seed": ["3", 0]}
    return {name: build("KSampler", sampler_name=["1", 0], positive=["2", 0], negative=["3", 0], **ways) for name in names}


def test_rings_end() -> None:
    found = read(build_ring())
    assert (found.seed, found.steps, found.prompt) == (None, None, "")


def test_every_node_comes_once() -> None:
    graph = from_prompt(build_ring())
    start = [Link("0", 0)]
    assert len(list(walk(graph, start, lambda node, _: list_links(node)))) == len(graph)
    assert len(list(walk(graph, [*start, Link("0", 1)], lambda node, _: list_links(node), by_slot=True))) == len(graph) + 1


def test_one_node_behind_itself() -> None:
    graph = build_graph()
    graph["3"]["inputs"]["latent_image"] = ["3", 0]
    assert read(graph).seed == 156680208700286


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[]", "expected a JSON object, found list"),
        ("{}", "no nodes"),
        ('{"a": 1, "b": {"class_type": 3}}', "no nodes"),
        ('{"a": {"class_type": "LoadImage", "inputs": []}}', "without a sampler"),
        ("[" * 200_000, "nested too deep"),
        ('{"a": ' * 50_000, "nested too deep"),
        (f'{{"a": {"9" * 5000}}}', "no JSON"),
        ('{"x": "' + "x" * 2**22 + '"}', "longer than"),
    ],
)
def test_what_is_no_graph(text: str, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read(text)
    assert caught.value.hint and "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_too_many_nodes() -> None:
    graph = {str(number): build("A", x=[str(number + 1), 0]) for number in range(MOST_NODES + 1)}
    with pytest.raises(ImageError, match=f"more than {MOST_NODES} nodes"):
        read(graph)


def test_a_large_graph_is_walked_once() -> None:
    """Links from everything to everything would take for ever if each way through them were gone."""
    graph = {str(number): build("A", **{f"x{way}": [str((number * 7 + way) % 3000), way] for way in range(20)}) for number in range(3000)}
    graph["0"] = build_graph()["3"]
    assert read(graph).steps == 20


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["1", "2", "3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["on", "lora", "a"]), inner, max_size=3),
    max_leaves=6,
)
NAMES = [
    "seed",
    "noise_seed",
    "steps",
    "cfg",
    "sampler_name",
    "sampler",
    "scheduler",
    "positive",
    "negative",
    "latent_image",
    "model",
    "text",
]
NAMES += [
    "guider",
    "noise",
    "sigmas",
    "width",
    "height",
    "lora_name",
    "stop_at_clip_layer",
    "clip",
    "conditioning_1",
    "denoise",
    "ckpt_name",
]
LINKS = st.tuples(st.sampled_from(["1", "2", "3", 1, "9"]), st.integers(-1, 2)).map(list)
NODES = st.fixed_dictionaries(
    {"class_type": st.sampled_from(["KSampler", "X"]), "inputs": st.dictionaries(st.sampled_from(NAMES), LINKS | JSON)}
)


@given(st.dictionaries(st.sampled_from(["1", "2", "3", "4"]), NODES | JSON))
def test_any_graph_is_read_or_refused(graph: Any) -> None:
    try:
        assert read(json.dumps(graph)).source == "comfyui"
    except ImageError as error:
        assert error.hint


@given(JSON, JSON, JSON)
def test_any_page_is_read_or_refused(nodes: Any, links: Any, widgets: Any) -> None:
    node = {"id": widgets, "type": "KSampler", "inputs": [links, {"name": widgets, "link": 1}], "widgets_values": widgets, "mode": links}
    for table in (
        {"nodes": nodes, "links": links},
        {"nodes": [node, nodes], "links": [links, {"id": 1, "origin_id": nodes}, [1, widgets, 0]]},
    ):
        try:
            from_comfy({"workflow": json.dumps(table)})
        except ImageError as error:
            assert error.hint
